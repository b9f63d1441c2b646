"""A naive model of edition 2: the engine is compared with it, and tests in flows run in it.

Pure: time and seed are arguments. Everything is in plain lists that are scanned from end to end.
"""

from flyteops.simulator.record import (
    Action,
    Attempt,
    Decision,
    Event,
    Execution,
    Question,
    Start,
    StepRun,
    Task,
)
from flyteops.simulator.simulator import Simulator

__all__ = [
    "Action",
    "Attempt",
    "Decision",
    "Event",
    "Execution",
    "Question",
    "Simulator",
    "Start",
    "StepRun",
    "Task",
]
