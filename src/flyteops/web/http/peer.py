"""The kernel's state of a TCP connection: whether written bytes arrived, and whether it was reset.

A client that has closed its sending side looks like one that has gone, until bytes are written to
it: a live one acknowledges them, one that has gone resets the connection. Without the calls of
Linux, everything counts as arrived.
"""

import fcntl
import socket
import struct
import sys
import termios
from asyncio import Transport
from contextlib import suppress

TCP_CLOSE = 7
"""The state of a connection that was reset (linux/tcp_states.h)."""


MAX_UNSENT = 128 * 1024
"""Bytes of an answer that the kernel takes before it has sent them.

Without the bound, it would take megabytes for a client that does not read.
"""


def bound_unsent(transport: Transport) -> None:
    """Limit the bytes that the kernel, if it can, buffers for a client that does not read."""
    sock = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with suppress(OSError):  # not a TCP connection, or one that is gone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT)


def unacknowledged(transport: Transport) -> int:
    """Return the number of bytes that wait in the kernel until the client acknowledges them."""
    sock = transport.get_extra_info("socket")
    if sock is None or not sys.platform.startswith("linux"):
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    except (OSError, ValueError):
        return 0
    return int(count)


def is_reset(transport: Transport) -> bool:
    """Return whether the client has reset the connection.

    Nothing else shows it when reading has stopped.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0] == TCP_CLOSE)
    except OSError:
        return False  # not a TCP connection
