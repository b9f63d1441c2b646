"""Connections to PostgreSQL as people have it: behind PgBouncer, with TLS, on several hosts, and
with few connections.
"""

import asyncio
import signal
import socket
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.certificate import Certificate, write_pair
from tests.e2e.mishap import is_told_at_once, prepare, wait_for
from tests.e2e.node import Node, only_line
from tests.postgres import bouncer, database, execute, place, url_of

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]

EVENT = {"event": "Asked", "payload": {}}


@pytest.fixture
async def client():
    async with httpx2.AsyncClient(timeout=40) as client:
        yield client


@pytest.fixture
async def serve():
    """Start servers that end with the test."""
    started = []

    async def serve(store, **environ):
        started.append(Node(store, **environ))
        await started[-1].start()
        return started[-1]

    yield serve
    for server in started:
        await server.end(signal.SIGKILL)


async def is_ready(client, server):
    answer = await client.get(f"{server.url}/../health/ready")
    return answer.status_code == 200


async def works(client, server):
    """Whether the server is ready, accepts an event, and has nothing to complain of."""
    await prepare(client, server)
    answer = await client.post(f"{server.url}/packs/Source/events", json=EVENT)
    return await is_ready(client, server) and answer.status_code == 202 and not server.warnings


# ---------------------------------------------------------------------------------------- PgBouncer


@pytest.mark.parametrize(
    "options", ["", "?search_path=pg_temp_not_there,{name}&statement_timeout=9000"]
)
async def test_a_proxy_that_pools_sessions_needs_no_setting(serve, client, options):
    async with place() as url, bouncer(url, "session", 40) as proxy_url:
        name = urlsplit(url).username
        one, two = [await serve(proxy_url + options.format(name=name)) for _ in range(2)]
        assert await works(client, one)
        assert await is_told_at_once(client, one, two)
        assert await is_ready(client, two)


@pytest.mark.parametrize("size", [1, 4])
async def test_a_proxy_that_pools_transactions_without_a_direct_url_stops_the_start_with_advice(
    size,
):
    async with place() as url, bouncer(url, "transaction", size) as proxy_url:
        line = await only_line(proxy_url)
        assert "FLYTE_STORE_DIRECT_URL must name the database itself" in line


async def test_a_proxy_that_pools_statements_is_refused():
    async with place() as url, bouncer(url, "statement") as proxy_url:
        assert "Let PgBouncer pool sessions or transactions" in await only_line(proxy_url)


async def test_options_that_the_proxy_refuses_are_named_with_advice():
    async with place() as url, bouncer(url) as proxy_url:
        line = await only_line(f"{proxy_url}?search_path=x", FLYTE_STORE_DIRECT_URL=url)
        assert "search_path" in line
        assert "ALTER ROLE" in line


async def test_a_direct_url_that_leads_to_another_database_stops_the_start():
    async with place() as url, bouncer(url) as proxy_url, database() as other:
        await other.start()
        line = await only_line(proxy_url, FLYTE_STORE_DIRECT_URL=other.url)
        assert "FLYTE_STORE_DIRECT_URL must lead to the same database" in line


async def test_a_direct_url_that_leads_to_the_proxy_stops_the_start():
    async with place() as url, bouncer(url) as proxy_url:
        line = await only_line(proxy_url, FLYTE_STORE_DIRECT_URL=proxy_url)
        assert "not to a proxy that pools transactions" in line


async def test_a_direct_url_with_a_wrong_password_stops_the_start():
    async with database() as postgres:
        await postgres.start()
        async with place(postgres.url) as url, bouncer(url) as proxy_url:
            line = await only_line(
                proxy_url, FLYTE_STORE_DIRECT_URL=url.replace(":secret", ":wrong-one")
            )
            assert "FLYTE_STORE_DIRECT_URL" in line
            assert "wrong-one" not in line


# ----------------------------------------------------------------------------------- URLs and hosts


async def test_the_options_that_hosted_services_add_are_understood(serve, client):
    async with place() as url:
        options = (
            "connect_timeout=5&keepalives=1&keepalives_idle=30&keepalives_interval=10&"
            "keepalives_count=5"
        )
        assert await works(
            client,
            await serve(
                f"{url}?{options}&channel_binding=prefer&gssencmode=disable&sslmode=prefer"
            ),
        )
    async with place() as url:
        parts = urlsplit(url)
        place_of = (
            f"host={parts.hostname}&port={parts.port}&dbname=postgres&user={parts.username}&"
            "password=secret"
        )
        assert await works(client, await serve(f"postgresql:///?{place_of}"))


@pytest.fixture
def silent_server():
    """Give a socket that lets clients connect and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def test_a_host_that_does_not_answer_does_not_keep_the_next_one_from_being_tried(
    serve, client, silent_server
):
    async with place() as url:
        parts = urlsplit(url)
        hosts = f"127.0.0.1:{silent_server.getsockname()[1]},127.0.0.1:1,127.0.0.1:{parts.port}"
        server = await serve(
            url_of(url, host=hosts) + "?connect_timeout=1&target_session_attrs=read-write"
        )
        assert await works(client, server)


# ---------------------------------------------------------------------------------------------- TLS


@pytest.fixture
async def encrypted(tmp_path):
    """Give a PostgreSQL with a certificate of the authority in `ca.pem`, and another authority
    in `other.pem`.
    """
    authority, other = Certificate("Authority", is_ca=True), Certificate("Other", is_ca=True)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "other.pem").write_bytes(other.pem)
    async with database() as postgres:
        postgres.use_tls(
            *write_pair(
                tmp_path, Certificate("db.example.com", issuer=authority, addresses=("127.0.0.2",))
            )
        )
        await postgres.start()
        yield postgres


async def test_a_certificate_that_cannot_be_verified_stops_the_start_with_the_file_named(
    encrypted, serve, client, tmp_path
):
    async with place(encrypted.url) as url:
        wrong, right = tmp_path / "other.pem", tmp_path / "ca.pem"
        line = await only_line(f"{url}?sslmode=verify-ca&sslrootcert={wrong}")
        assert str(wrong) in line
        assert "certificate verify failed" in line or "certificate is refused" in line
        line = await only_line(f"{url}?sslmode=verify-full&sslrootcert={right}")
        assert "127.0.0.1" in line
        assert "certificate is not valid for '127.0.0.1'" in line
        assert "certificate is refused" in await only_line(f"{url}?sslrootcert=system")
        assert "cannot be read" in await refused(
            f"{url}?sslmode=verify-full&sslrootcert={tmp_path / 'none.pem'}"
        )
        named = url_of(url, host=f"localhost:{urlsplit(url).port}")
        assert await works(
            client,
            await serve(f"{named}?sslmode=verify-full&sslrootcert={right}&channel_binding=require"),
        )


async def refused(store):
    server = Node(store)
    await server.run()
    assert await server.over() == 2
    assert "secret" not in server.log
    return server.log


async def test_a_database_without_tls_stops_the_start_of_a_server_that_requires_it():
    async with place() as url:
        line = await only_line(f"{url}?sslmode=require")
        assert "has TLS switched off" in line


# -------------------------------------------------------------------------------------- Connections


async def test_a_database_without_a_free_connection_is_reported_as_full(serve, client):
    async with place() as url:
        role = urlsplit(url).username
        await execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
        server = await serve(url)

        async def has_warned():
            return bool(server.warnings)

        await wait_for(has_warned, 10)
        (line,) = server.warnings
        assert "it has no connection left" in line
        assert "FLYTE_STORE_POOL_SIZE, which is 10" in line
        assert not await is_ready(client, server)


async def test_a_server_uses_no_more_connections_than_it_is_allowed(serve, client):
    async with place() as url:
        role = urlsplit(url).username
        await execute(f"ALTER ROLE {role} CONNECTION LIMIT 3")
        server = await serve(url, FLYTE_STORE_POOL_SIZE="2")
        await prepare(client, server)
        answers = await asyncio.gather(
            *(client.post(f"{server.url}/packs/Source/events", json=EVENT) for _ in range(60))
        )
        assert {answer.status_code for answer in answers} == {202}
        assert server.warnings == []
