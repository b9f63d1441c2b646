"""A program that injects faults into servers and then checks their guarantees.

Run by `flyte torture`. Clients create work (`sender`), do it, or fail to (`pack`), and record all
their observations (`history`). Servers (`server`) are killed, frozen, starved of disk and given a
wrong clock (`injector`). In the end, the state of the servers is compared with the knowledge of the
clients (`check`). The state after a power failure is derived from a log of the writes and syncs
(`power_loss`). The faults of `planted` prove that all of that finds them.
"""

from flyteops_chaos.check import faults_in
from flyteops_chaos.history import History
from flyteops_chaos.run import ChaosRun

__all__ = ["ChaosRun", "History", "faults_in"]
