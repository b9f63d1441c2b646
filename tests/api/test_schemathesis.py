"""Requests that nobody thought of, made from the description of the API, for a real server process.

FLYTE_FUZZ_EXAMPLES says how many per operation, FLYTE_FUZZ_SEED where chance begins.
"""

import os
import threading
from collections.abc import Iterator

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flyteops.web.api.openapi import describe
from flyteops.web.api.routes import OPERATIONS
from tests.e2e.server import READY, Server

EXAMPLES = int(os.environ.get("FLYTE_FUZZ_EXAMPLES", "12"))
SEED = int(os.environ.get("FLYTE_FUZZ_SEED", "1"))

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
]

KNOWN = {"packId": "P", "flowName": "f", "key": "k"}
"""What exists while we ask; every second request is about it."""

schema = schemathesis.openapi.from_dict(describe(OPERATIONS))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a server process, which logs no error meanwhile and ends as a healthy
    one does.
    """
    server = Server(tmp_path_factory.mktemp("fuzz"))
    address = server.read_until(READY)[1]
    log: list[str] = []
    reading = threading.Thread(target=lambda: log.extend(server.process.stderr))
    reading.start()
    yield address
    server.process.terminate()
    assert server.process.wait(20) == 0
    reading.join()
    server.end()
    assert not [line for line in log if " ERROR " in line]


@pytest.fixture(scope="module")
def known(address: str) -> None:
    step = {"event": {"name": "E", "packName": "P"}, "command": {"name": "C", "packName": "P"}}
    with httpx2.Client(base_url=address) as api:
        api.post("/v1/packs", json={"name": "P"}).raise_for_status()
        api.post("/v1/flows", json={"name": "f", "steps": [step]}).raise_for_status()
        api.put("/v1/datastore/k", files={"value": ("x", b"1")}).raise_for_status()
        api.post("/v1/packs/P/events", json={"event": "E"}).raise_for_status()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("known")
@schema.parametrize()
@seed(SEED)
@settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_no_request_brings_an_answer_that_is_not_described(
    case: schemathesis.Case, address: str
) -> None:
    values = case.path_parameters
    if isinstance(values, dict) and len(str(values)) % 2 and case.method != "DELETE":
        case.path_parameters = {name: KNOWN.get(name, value) for name, value in values.items()}
    case.call_and_validate(base_url=address, checks=CHECKS)
