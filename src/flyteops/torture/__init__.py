"""A program that mistreats servers and then checks what became of its promises; `flyte torture` runs it.

Clients write down what they were told (`history`), packs crash, hang and answer late (`crew`), servers are killed, frozen,
starved of disk and given a wrong clock (`victim`), and in the end what the servers have is held against what the clients know.
"""

from flyteops.torture.history import History, faults_in
from flyteops.torture.run import Torture

__all__ = ["History", "Torture", "faults_in"]
