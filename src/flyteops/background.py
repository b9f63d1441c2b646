"""Health of the background loops.

Each loop counts and logs its failures, and readiness names a loop that keeps failing.
"""

import logging
from collections.abc import Callable
from time import monotonic as steady_clock

from flyteops.retry import FailureLog, describe

SEE_LOG = "; the log of the server says why."
"""The end of a message for clients who may not see errors, which name hosts, files and programs."""

FAILING_AFTER = 15.0
"""The seconds without a success, from the first failure, until readiness reports a loop."""


class BackgroundLoop:
    """A loop of the server. Report each round with `succeeded` or `failed`; both are cheap.

    While an `is_essential` loop, without which flows make no progress, keeps failing, the server is
    not ready. The failures of any other loop are warnings.
    """

    def __init__(
        self,
        name: str,
        logger: logging.Logger,
        monotonic: Callable[[], float],
        *,
        is_essential: bool,
    ) -> None:
        self.name = name
        self.is_essential = is_essential
        self.failures = 0
        self._outage = FailureLog(name, logger)
        self._monotonic = monotonic
        self._failing_since: float | None = None

    def succeeded(self) -> None:
        """Record a successful round."""
        self.failures = 0
        self._failing_since = None
        self._outage.recovered()

    def failed(self, error: Exception, *, is_logged: bool = False) -> None:
        """Count a failed round; log the first of several.

        The traceback is logged unless the error is one of Flyte's. Pass `is_logged` if the caller
        has logged the error in its own words.
        """
        self.failures += 1
        if self._failing_since is None:
            self._failing_since = self._monotonic()
        if is_logged:
            self._outage.reason = describe(error)
        else:
            self._outage.failed(error)

    @property
    def problem(self) -> str:
        """The reason for readiness to report this loop, with the error."""
        return self.report(details=True)

    def report(self, *, details: bool) -> str:
        """Return the reason for readiness to report this loop.

        It is "" while the loop works or has failed for a short time only. Without `details` it does
        not include the error.
        """
        if self._failing_since is None or self._monotonic() - self._failing_since < FAILING_AFTER:
            return ""
        times = "once" if self.failures == 1 else f"{self.failures} times in a row"
        return f"{self.name} has failed {times}{f': {self._outage.reason}' if details else SEE_LOG}"


class BackgroundLoops:
    """The background loops of a server, by name."""

    def __init__(self, monotonic: Callable[[], float] = steady_clock) -> None:
        self._monotonic = monotonic
        self._loops: dict[str, BackgroundLoop] = {}

    def loop(
        self, name: str, logger: logging.Logger, *, is_essential: bool = False
    ) -> BackgroundLoop:
        """Return the loop of this name, registering it on first use.

        `name` begins a sentence: "The maintenance".
        """
        if name not in self._loops:
            self._loops[name] = BackgroundLoop(
                name, logger, self._monotonic, is_essential=is_essential
            )
        return self._loops[name]

    def problems(self, *, essential: bool, details: bool = True) -> list[str]:
        """Return the problems of the loops that are essential, or of those that are not."""
        loops = [loop for loop in self._loops.values() if loop.is_essential == essential]
        return [problem for loop in loops if (problem := loop.report(details=details))]
