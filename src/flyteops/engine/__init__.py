"""The engine: computes the outcome of an event for the flows that listen to it.

Pure and deterministic.
"""

from flyteops.engine.compiled import (
    CompiledFlow,
    CompiledStep,
    FlowIndex,
    Subscribers,
    compile_flow,
)
from flyteops.engine.evaluation import (
    NOTHING,
    evaluate,
    evaluate_result,
    evaluate_schedule,
    on_timeout,
    schedule_entries,
)
from flyteops.engine.join import StepStatus, find_unmet_dependency

__all__ = [
    "NOTHING",
    "CompiledFlow",
    "CompiledStep",
    "FlowIndex",
    "StepStatus",
    "Subscribers",
    "compile_flow",
    "evaluate",
    "evaluate_result",
    "evaluate_schedule",
    "find_unmet_dependency",
    "on_timeout",
    "schedule_entries",
]
