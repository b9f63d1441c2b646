"""Open files of the server process: how many connections they allow, and whether there are none left."""

import asyncio
import errno
import os
import resource

from flyteops.web.traffic import Traffic

LOOK_EVERY = 1.0
"""Seconds between two looks whether the table of open files is full."""

OTHER_FILES = 100
"""Open files that the server keeps for its store, its log and everything else than connections."""

MOST_CONNECTIONS = 10_000


def connections_allowed(wanted: int | None) -> int:
    """Return how many connections there may be, after raising the soft limit of open files as far as that needs."""
    wanted = wanted or MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + OTHER_FILES
    if soft < needed and hard != soft:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(min(wanted, soft - OTHER_FILES), soft // 2)


async def watch_descriptors(traffic: Traffic) -> None:
    """Note when the table of open files is full: connections are then closed, or not accepted, without anybody noticing."""
    while True:
        try:
            os.close(os.dup(0))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                traffic.descriptors.reached()
        await asyncio.sleep(LOOK_EVERY)
