"""The interactive page of the API works in a real browser, without anything from elsewhere."""

import os
import shutil
import subprocess

import pytest

from flyteops.web.api import OPERATIONS

pytestmark = pytest.mark.slow

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


@pytest.fixture
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI promised a Chromium, and there is none")
        pytest.skip("there is no Chromium here")
    return found


def test_every_operation_is_on_the_page(server, browser, tmp_path):
    command = [browser, *QUIET, f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--dump-dom", f"{server}/swagger"]
    page = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for operation in OPERATIONS:
        assert f"operations-{operation.tag}-{operation.name}" in page
