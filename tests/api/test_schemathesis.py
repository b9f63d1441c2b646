"""Requests that nobody thought of, made from the description of the API; FLYTE_FUZZ_EXAMPLES says how many per operation."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flyteops.service import Service
from flyteops.storage.sqlite import SqliteStore
from flyteops.web.api import OPERATIONS
from flyteops.web.app import create_app
from flyteops.web.openapi import describe
from tests.api.conftest import running

EXAMPLES = int(os.environ.get("FLYTE_FUZZ_EXAMPLES", "12"))

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
    """Yield the address of a server in a thread of its own."""
    directory = tmp_path_factory.mktemp("fuzz")
    ready, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def serve(path: Path) -> None:
        async with SqliteStore(path / "flyte.db") as store:
            service = Service(store)
            await service.start()
            async with running(create_app(service)) as server:
                found.append(f"http://127.0.0.1:{server.port}")
                ready.set()
                await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve(directory)))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    stop.set()
    thread.join()


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
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_brings_an_answer_that_is_not_described(case: schemathesis.Case, address: str) -> None:
    values = case.path_parameters
    if isinstance(values, dict) and len(str(values)) % 2 and case.method != "DELETE":
        case.path_parameters = {name: KNOWN.get(name, value) for name, value in values.items()}
    case.call_and_validate(base_url=address, checks=CHECKS)
