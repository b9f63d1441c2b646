"""The interactive page of the API works in a real browser, without anything from elsewhere."""

import subprocess

import pytest

from flyteops.web.api.routes import OPERATIONS
from tests.e2e.browser import QUIET, chromium

pytestmark = pytest.mark.slow


@pytest.fixture
def browser():
    return chromium()


def test_every_operation_is_on_the_page(server, browser, tmp_path):
    command = [
        browser,
        *QUIET,
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=10000",
        "--dump-dom",
        f"{server}/swagger",
    ]
    page = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for operation in OPERATIONS:
        assert f"operations-{operation.tag}-{operation.name}" in page
