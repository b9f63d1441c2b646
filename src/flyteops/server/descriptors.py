"""Open files of the server process: the number of connections they allow, and their exhaustion."""

import asyncio
import errno
import os
import resource

from flyteops.web.http.traffic import Traffic

LOOK_EVERY = 1.0
"""Seconds between two checks for a full table of open files."""

OTHER_FILES = 100
"""Open files reserved for the store, the log and everything else than connections."""

MAX_CONNECTIONS = 10_000


def connections_allowed(wanted: int | None) -> int:
    """Return the number of connections allowed, after raising the soft limit of open files.

    The limit is raised as far as the number needs and the hard limit permits.
    """
    wanted = wanted or MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + OTHER_FILES
    if soft < needed and hard != soft:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(min(wanted, soft - OTHER_FILES), soft // 2)


async def watch_descriptors(traffic: Traffic) -> None:
    """Record when the table of open files is full.

    Connections are then closed, or not accepted, without any sign.
    """
    while True:
        try:
            os.close(os.dup(0))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                traffic.descriptors.reached()
        await asyncio.sleep(LOOK_EVERY)
