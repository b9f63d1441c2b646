"""A program that mistreats servers and then checks what became of their promises; `flyte torture` runs it.

Clients make work (`sender`), do it, or fail to (`pack`), and write down everything that they see (`history`). Servers (`server`)
are killed, frozen, starved of disk and given a wrong clock (`injector`). In the end, what the servers have is compared with the
knowledge of the clients (`check`). What a power failure would leave is found out from a log of what was written and synced
(`power_loss`). The faults of `planted` are there to show that all of that finds them.
"""

from flyteops_chaos.check import faults_in
from flyteops_chaos.history import History
from flyteops_chaos.run import ChaosRun

__all__ = ["ChaosRun", "History", "faults_in"]
