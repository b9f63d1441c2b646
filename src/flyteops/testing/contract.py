"""The whole contract. See the package's docstring for its use with a backend."""

from flyteops.testing.action import ActionContract
from flyteops.testing.archive import ArchiveContract
from flyteops.testing.aside import AsideContract
from flyteops.testing.basis import BasisContract
from flyteops.testing.catalog import CatalogContract
from flyteops.testing.event import EventContract
from flyteops.testing.text import TextContract
from flyteops.testing.timer import TimerContract
from flyteops.testing.timetable import TimetableContract
from flyteops.testing.transfer import TransferContract


class StoreContract(
    CatalogContract,
    EventContract,
    BasisContract,
    ActionContract,
    TimerContract,
    TimetableContract,
    AsideContract,
    ArchiveContract,
    TransferContract,
    TextContract,
):
    """The tests; subclass it and define `connect`."""
