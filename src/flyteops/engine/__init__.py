"""The engine: computes the outcome of an event for the flows that listen to it. Pure and deterministic."""

from flyteops.engine.compiled import FlowIndex, Listening, PreparedFlow, PreparedStep, prepare
from flyteops.engine.evaluation import NOTHING, evaluate, evaluate_result, fire, rule_on_lost, timetables
from flyteops.engine.join import Standing, why_not_yet

__all__ = [
    "NOTHING",
    "FlowIndex",
    "Listening",
    "PreparedFlow",
    "PreparedStep",
    "Standing",
    "evaluate",
    "evaluate_result",
    "fire",
    "prepare",
    "rule_on_lost",
    "timetables",
    "why_not_yet",
]
