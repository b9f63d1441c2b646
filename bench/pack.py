"""Measure installed packs: the time until one is registered, and its memory when idle.

With ``--most MB`` it fails if one uses more memory. Times are printed with the load of the machine,
and never cause a failure.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median

from bench.goal import aligned
from bench.server import a_server, cpu_of, memory_of

IDLE_AFTER = 2.0

NOWHERE = "http://127.0.0.1:1"

SETTINGS = {
    "Email": {
        "SMTPSERVER": "127.0.0.1:1",
        "FLYTE_EMAIL_IMAP_URL": "imap://flyte@127.0.0.1:1",
        "FLYTE_EMAIL_IMAP_PASSWORD": "x",
    },
    "Matrix": {"FLYTE_MATRIX_HOMESERVER": NOWHERE, "FLYTE_MATRIX_TOKEN": "x"},
    "Slack": {
        "FLYTE_SLACK_TOKEN": "xoxb-1",
        "FLYTE_SLACK_APP_TOKEN": "xapp-1",
        "FLYTE_SLACK_API_URL": f"{NOWHERE}/",
    },
}
"""The required settings of packs; the systems that they watch do not exist."""


def registered(api: str, name: str) -> bool:
    with urllib.request.urlopen(f"{api}/v1/packs") as answer:
        return any(pack["name"] == name for pack in json.load(answer)["packs"])


def measure(flyte: str, name: str) -> tuple[float, float, float]:
    """Return the seconds until a pack is registered, its CPU seconds, and its MB when idle."""
    with a_server() as server:
        api = f"http://127.0.0.1:{server.port}"
        environ = {
            **os.environ,
            **SETTINGS.get(name, {}),
            "FLYTE_API": api,
            "FLYTE_PACK_HEALTH_PORT": "off",
            "LOGLEVEL": "error",
        }
        began = time.perf_counter()
        pack = subprocess.Popen(
            [flyte, "pack", "run", name],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            while not registered(api, name):
                if pack.poll() is not None:
                    raise RuntimeError(f"the pack {name} did not start")
                time.sleep(0.01)
            seconds, worked = time.perf_counter() - began, cpu_of(pack.pid)
            time.sleep(IDLE_AFTER)
            return seconds, worked, memory_of(pack.pid)
        finally:
            pack.kill()
            pack.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pack", description=__doc__)
    parser.add_argument("names", metavar="PACK", nargs="+")
    parser.add_argument(
        "--flyte",
        default=str(Path(sys.executable).with_name("flyte")),
        help="the command of the installation",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=float, metavar="MB", help="fail when a pack keeps more")
    asked = parser.parse_args()
    rows, heavy = [], []
    for name in asked.names:
        load = os.getloadavg()[0]
        seconds, worked, megabytes = zip(
            *(measure(asked.flyte, name) for _ in range(asked.rounds)), strict=True
        )
        rows.append(
            [
                name,
                f"{median(seconds):.2f}",
                f"{median(worked):.2f}",
                f"{max(megabytes):.1f}",
                f"{load:.1f}",
            ]
        )
        if asked.most is not None and max(megabytes) >= asked.most:
            heavy.append(name)
    print(aligned([["pack", "start s", "of CPU s", "idle MB", "load"], *rows]))
    if heavy:
        sys.exit(f"{', '.join(heavy)}: more than {asked.most:g} MB")


if __name__ == "__main__":
    main()
