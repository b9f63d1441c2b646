"""`flyte serve` as a process."""

import os
import re
import subprocess
import sys

READY = re.compile(r"listens on (https?://\S+) ")


class Server:
    """A server process with its log, line by line."""

    def __init__(self, folder, *args, **environ):
        env = {
            key: value for key, value in os.environ.items() if not key.startswith(("FLYTE_", "LOG"))
        }
        env |= {"FLYTE_STORE": f"sqlite:///{folder}/flyte.db", "FLYTE_PORT": "0", **environ}
        command = [sys.executable, "-m", "flyteops", "serve", *args]
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines = []

    def read_until(self, pattern):
        """Read the log up to the line that matches, and return the match."""
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError("".join(self.lines))

    def read_until_all(self, *patterns):
        """Read the log until each pattern has matched a line, in any order."""
        missing = {getattr(each, "pattern", each) for each in patterns}
        while missing:
            line = self.read_until("|".join(missing)).string
            missing = {pattern for pattern in missing if not re.search(pattern, line)}

    def end(self):
        """Wait for the end; return exit code and everything that was said."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, "".join(self.lines) + err
