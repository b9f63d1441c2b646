"""Child processes that a pack forks: they keep neither its connections nor its signals.

A child made by `os.fork` (`multiprocessing` on Linux, pools of workers) has a copy of every
descriptor. If it outlived the pack with a copy of the connection on which the pack was waiting for
work, the server would lose the next command to that connection.
"""

import os
import signal
import socket
import threading
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet


class _Descriptor(Protocol):
    def fileno(self) -> int: ...
    def shutdown(self, how: int) -> None: ...


class PrivateSocket:
    """A socket of this process alone: forked children do not get it.

    This holds for the lifetime of this object.
    """

    def __init__(self, sock: _Descriptor) -> None:
        self._socket = sock
        _private.add(self)

    @property
    def is_closed(self) -> bool:
        """Whether the socket is closed."""
        return self._socket.fileno() < 0

    def hang_up(self) -> None:
        """End the connection in all processes that have a copy of it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def drop(self, null: int) -> None:
        """Put another descriptor in its place, so that a later close of its number is harmless."""
        with suppress(OSError):
            if not self.is_closed:
                os.dup2(null, self._socket.fileno(), inheritable=False)


class Forks:
    """The forks of this process so far.

    A connection that was made during one may have been copied before it was registered.
    """

    def __init__(self) -> None:
        self._begun = 0
        self._under_way = 0
        self._thread = threading.local()

    def begin(self) -> None:
        """Prepare to fork: a signal for the child is held until the child has left its parent."""
        self._begun += 1
        self._under_way += 1
        self._thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _signals_of_event_loop())

    def end(self) -> None:
        """Continue after a fork."""
        self._under_way -= 1
        signal.pthread_sigmask(signal.SIG_SETMASK, self._thread.mask)

    def end_in_child(self) -> None:
        """Release the resources of the parent."""
        _drop_sockets()
        _reset_signals()
        self.end()

    def mark(self) -> int:
        """Return a number for a later call of `since`."""
        return self._begun

    def since(self, mark: int) -> bool:
        """Return whether a fork may have happened since then."""
        return self._under_way > 0 or self._begun != mark


# Hooks of `os.register_at_fork` cannot be removed, so all packs of the process share one.
_private: "WeakSet[PrivateSocket]" = WeakSet()
forks = Forks()


def end_if_forked(pid: int, *, failed: bool) -> None:
    """End a child that returns from a command to the code of the pack, its parent's."""
    if os.getpid() != pid:
        os._exit(1 if failed else 0)


def _drop_sockets() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for each in list(_private):
            each.drop(null)
    finally:
        os.close(null)


def _reset_signals() -> None:
    """Undo the set-up of an event loop.

    Otherwise a signal for the child would go to a pipe that the parent reads.
    """
    # A pending one would raise KeyboardInterrupt in the hook, where exceptions are discarded.
    interrupts = signal.SIGINT not in signal.sigpending()
    for number in _signals_of_event_loop():
        signal.set_wakeup_fd(-1)
        signal.signal(
            number,
            signal.default_int_handler
            if number == signal.SIGINT and interrupts
            else signal.SIG_DFL,
        )


def _signals_of_event_loop() -> set[int]:
    return {
        number for number in signal.valid_signals() if _is_of_event_loop(signal.getsignal(number))
    }


def _is_of_event_loop(handler: object) -> bool:
    module = getattr(getattr(handler, "func", handler), "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in ("asyncio", "uvloop")


os.register_at_fork(
    before=forks.begin, after_in_parent=forks.end, after_in_child=forks.end_in_child
)
