"""A real Chromium, told over a pipe what to do (DevTools protocol)."""

import json
import os
import shutil
import subprocess
import time

import pytest

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium():
    """Return where Chromium is; where CI promised one, there must be one."""
    found = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI promised a Chromium, and there is none")
        pytest.skip("there is no Chromium here")
    return found


class Browser:
    """A browser with one page. Use as a context manager; `said` is what went wrong on the page."""

    def __init__(self, folder):
        command, self._commands = os.pipe()
        self._answers, answer = os.pipe()
        # Chromium reads from 3 and writes to 4, whatever numbers the pipes have here.
        shell = ["bash", "-c", f'exec 3<&{command} 4>&{answer}; exec "$@"', "bash"]
        program = [chromium(), *QUIET, f"--user-data-dir={folder}", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [*shell, *program], pass_fds=(command, answer), stderr=subprocess.DEVNULL
        )
        os.close(command)
        os.close(answer)
        self._reader = os.fdopen(self._answers, "rb", buffering=0)
        self._rest = b""
        self._number = 0
        self._session = None
        self.said = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)
        os.close(self._commands)
        self._reader.close()

    def ask(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self._note(answer["params"])

    def _note(self, params):
        if params.get("entry", {}).get("level") not in ("verbose", "info"):
            self.said.append(json.dumps(params))

    def _read(self):
        while b"\0" not in self._rest:
            chunk = self._reader.read(65536)
            assert chunk, "the browser has ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, url):
        self.ask("Page.navigate", url=url)

    def run(self, script):
        """Return the value of a script on the page."""
        return self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )["result"].get("value")

    def wait_for(self, script):
        """Wait until a script on the page is true."""
        deadline = time.monotonic() + 30
        while not self.run(script):
            assert time.monotonic() < deadline, (
                f"{script}: {self.run('document.body.innerText')}; {self.said}"
            )
