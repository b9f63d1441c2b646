"""Parts of `flyte serve` that can be looked at without a process."""

import asyncio
import logging
import socket

import pytest

from flyteops.errors import SettingsError
from flyteops.server.loops import run_maintenance
from flyteops.server.run import make_service
from flyteops.server.socket import PortTakenError, address_of, is_loopback, open_listener
from flyteops.settings import Settings
from flyteops.storage import open_store


def test_a_listener_on_any_free_port_knows_its_address():
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener, Settings()) == f"http://127.0.0.1:{port}"
        assert (
            address_of(listener, Settings(tls_cert_path="c", tls_key_path="k"))
            == f"https://127.0.0.1:{port}"
        )
        assert is_loopback(listener)


def test_a_listener_on_every_address_is_shown_as_one_that_can_be_opened():
    with open_listener("0.0.0.0", 0) as listener:
        assert address_of(listener, Settings()).startswith("http://127.0.0.1:")
        assert not is_loopback(listener)


def test_a_taken_port_is_an_error_of_its_own():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTakenError):
        open_listener("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_a_fault_of_the_settings(host):
    with pytest.raises(SettingsError) as caught:
        open_listener(host, 0)
    (problem,) = caught.value.problems
    assert problem.path == "FLYTE_HOST"
    assert repr(host) in problem.message


async def test_the_maintenance_goes_on_after_a_failure(tmp_path, caplog):
    store = open_store(f"sqlite:///{tmp_path}/flyte.db")
    async with store:
        service = make_service(Settings(), store)
        await service.start()
    failed, stop = asyncio.Event(), asyncio.Event()
    caplog.handler.addFilter(lambda record: failed.set() or True)
    with caplog.at_level(logging.WARNING, "flyte.server"):
        sweeping = asyncio.create_task(run_maintenance(service, stop))
        await failed.wait()
    assert "The maintenance failed: The store is closed; retrying until it succeeds" in caplog.text
    assert not sweeping.done()
    stop.set()
    await sweeping
