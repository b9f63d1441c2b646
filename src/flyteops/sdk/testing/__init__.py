"""Tests of packs without a network: the pack's real code against a server in memory."""

from flyteops.sdk.testing.clock import ManualClock, settle
from flyteops.sdk.testing.server import FakeServer
from flyteops.sdk.testing.tester import API, PackTester, run_command

__all__ = ["API", "FakeServer", "ManualClock", "PackTester", "run_command", "settle"]
