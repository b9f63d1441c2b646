"""Health of background loops."""

import logging

import pytest

from flyteops.background import FAILING_AFTER, BackgroundLoops
from flyteops.errors import UnavailableError
from tests.support.clock import Stopwatch

LOGGER = logging.getLogger("flyte.test")


def test_a_loop_that_keeps_failing_is_named_with_its_count_and_reason() -> None:
    clock = Stopwatch()
    loops = BackgroundLoops(clock)
    loop = loops.loop("The maintenance", LOGGER)
    loop.failed(ValueError("a bad row"))
    assert loops.problems(essential=False) == []
    clock.now = FAILING_AFTER
    loop.failed(UnavailableError("The store is away."))
    [problem] = loops.problems(essential=False)
    assert problem == "The maintenance has failed 2 times in a row: The store is away."
    assert loops.problems(essential=True) == []
    loop.succeeded()
    assert loops.problems(essential=False) == []


def test_a_loop_that_fails_now_and_then_is_not_reported() -> None:
    clock = Stopwatch()
    loops = BackgroundLoops(clock)
    loop = loops.loop("Timers", LOGGER, is_essential=True)
    for _ in range(5):
        loop.failed(UnavailableError("away"))
        clock.now += FAILING_AFTER - 1
        loop.succeeded()
    assert loops.problems(essential=True) == []


def test_the_log_has_the_first_failure_with_its_traceback_and_the_recovery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    loop = BackgroundLoops(Stopwatch()).loop("Timers", LOGGER)
    for _ in range(3):
        loop.failed(ValueError("a bad row"))
    loop.succeeded()
    first, last = caplog.records
    assert first.levelname == "WARNING"
    assert first.exc_info is not None
    assert "Timers works again after 3 failed attempts" in last.getMessage()
