"""Secrets: what templates write is a reference, and only packs get the value."""

import json
import logging
from datetime import UTC, datetime

import pytest
from cryptography.fernet import Fernet

from flyteops.document import Document
from flyteops.errors import ConflictError, ForbiddenError, InputError
from flyteops.flow.file import read_flow
from flyteops.model import FATAL, DataItem, NewEvent, PackDeclaration
from flyteops.service import Service
from flyteops.service.auditlog.log import AuditFilter
from flyteops.service.encryption import Encryptor
from flyteops.storage.query import EventFilter, ExecutionFilter
from flyteops.storage.sqlite import SqliteStore

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
VALUE = "p\"ä\\ss'word & $(x)"


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore(tmp_path / "flyte.db") as store:
        yield store


async def started(store, *keys):
    service = Service(store, clock=lambda: NOW, encryptor=Encryptor(keys) if keys else None)
    await service.start()
    return service


@pytest.fixture
async def service(store):
    service = await started(store, OLD)
    await service.data.save(a_secret("db", VALUE))
    return service


def a_secret(key, value, description=""):
    return DataItem(
        key,
        "text/plain",
        value if isinstance(value, bytes) else value.encode(),
        description,
        is_secret=True,
    )


async def asked(service, command_input, payload=b"{}", **more):
    """Have a flow ask for a command with that input, and return what pack Worker is handed."""
    step = {
        "id": "only",
        "event": {"name": "Said", "packName": "Source"},
        "command": {"name": "Do", "packName": "Worker", "input": command_input},
    }
    await service.flows.save(read_flow(Document({"name": "flow", "steps": [step | more]})))
    for name in ("Source", "Worker"):
        await service.packs.register(PackDeclaration(name=name))
    await service.accept_event("Source", NewEvent("Said", payload))
    return await service.take("Worker")


async def shown(service):
    """All that people can be shown of what happened."""
    executions = await service.audit.list_executions(ExecutionFilter())
    one_by_one = [
        await service.audit.get_execution(execution.correlation_id) for execution in executions
    ]
    events = await service.audit.list_events(EventFilter())
    return repr(
        [
            *executions,
            *one_by_one,
            *events,
            *[await service.audit.get_event(record.event.event_id) for record in events],
        ]
    )


async def test_a_pack_gets_the_value_and_nobody_else(service, tmp_path):
    [claimed] = await asked(service, {"user": "flyte", "password": "{{ secret('db') }}"})
    assert json.loads(claimed.input) == {"user": "flyte", "password": VALUE}
    text = await shown(service)
    assert "***" in text
    assert "@secret:" not in text
    assert VALUE not in text
    await service.run_maintenance()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"ss'word" not in stored


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{{ secret('db') }}", VALUE),
        ('a{{secret( "db" )}}b', f"a{VALUE}b"),
        ("x {{ secret('db')|shellquote }}", "x 'p\"ä\\ss'\"'\"'word & $(x)'"),
        ("?p={{ secret('db') | urlencode }}", "?p=p%22%C3%A4%5Css%27word+%26+%24%28x%29"),
        ("{% for n in Event.Payload.list %}{{ secret('db') }},{% endfor %}", f"{VALUE},{VALUE},"),
    ],
)
async def test_a_secret_can_be_printed_in_the_input_of_a_command(service, written, expected):
    [claimed] = await asked(service, {"text": written}, b'{"list": [1, 2]}')
    assert json.loads(claimed.input) == {"text": expected}


@pytest.mark.parametrize(
    "written",
    [
        "{{ secret('db')|upper }}",
        "{{ secret('db')|shellquote|lower }}",
        "{{ secret('db') + 1 }}",
        "{{ secret('db') == 'x' }}",
        "{{ secret(Event.Payload.name) }}",
        "{{ base64Encode(secret('db')) }}",
        "{% if secret('db') %}x{% endif %}",
        "{% set x = secret('db') %}",
        "{% filter upper %}{{ secret('db') }}{% endfilter %}",
    ],
)
async def test_nothing_else_can_be_done_with_a_secret(service, written):
    with pytest.raises(InputError, match=r"[Aa] secret can"):
        await asked(service, {"text": written})


@pytest.mark.parametrize(
    "more", [{"context": {"x": "{{ secret('db') }}"}}, {"criteria": "{{ secret('db') }}"}]
)
async def test_a_secret_is_for_inputs_only(service, more):
    with pytest.raises(InputError, match="a secret can only be used in the input of a command"):
        await asked(service, None, **more)


async def test_a_secret_that_is_not_there_keeps_its_step_from_running(service):
    assert await asked(service, "{{ secret('nothing') }}") == []
    assert "cannot find secret name=nothing" in await shown(service)


async def test_the_datastore_does_not_give_away_secrets(service):
    assert await asked(service, "{{ datastore('db') }}") == []
    assert "the datastore item db is a secret; write secret('db')" in await shown(service)
    with pytest.raises(ForbiddenError):
        service.data.get("db")
    assert [(item.key, item.value, item.is_secret) for item in service.data.list()] == [
        ("db", b"", True)
    ]


async def test_a_reference_in_an_event_is_only_text(service, store):
    [first] = await asked(service, "{{ secret('db') }}")
    action = await store.get_action(first.action_id)
    reference = json.loads(action.input)
    forged = reference[:-3] + ("AA@" if reference[-3:] != "AA@" else "BB@")
    [claimed] = await asked(service, "{{ Event.Payload }}", json.dumps(forged).encode())
    assert json.loads(claimed.input) == forged


async def test_a_value_that_a_pack_tells_is_masked_however_it_is_written(service):
    [claimed] = await asked(service, "{{ secret('db') }}")
    for written in (
        json.dumps({"stdout": VALUE}),
        json.dumps({"stdout": f"say {VALUE}\n"}, ensure_ascii=False),
    ):
        await service.accept_event("Worker", NewEvent("Told", written.encode()))
    await service.complete(
        "Worker", claimed.action_id, NewEvent("Done", json.dumps(VALUE).encode())
    )
    text = await shown(service)
    assert "word & $(x)" not in text


async def test_an_action_whose_secret_is_gone_fails_and_says_so(service):
    await asked(service, {"a": "{{ secret('db') }}"})
    await service.accept_event("Source", NewEvent("Said", b"{}"))
    await service.data.delete("db")
    assert await service.take("Worker") == []
    execution = (await service.audit.list_executions(ExecutionFilter()))[0]
    assert execution.actions[0].state == FATAL
    assert b"The secret 'db' is no longer available" in execution.actions[0].result.payload


async def test_a_secret_outlives_a_restart_and_a_change_of_keys(service, store):
    await asked(service, "{{ secret('db') }}")
    await service.accept_event("Source", NewEvent("Said", b"{}"))
    await started(store, NEW, OLD)
    again = await started(store, NEW)
    [claimed] = await again.take("Worker")
    assert json.loads(claimed.input) == VALUE


async def test_without_the_key_a_secret_is_known_by_name_only(service, store, caplog):
    with caplog.at_level(logging.WARNING):
        other = await started(store, NEW)
    assert "The secret 'db' cannot be decrypted" in caplog.text
    assert [item.key for item in other.data.list()] == ["db"]
    assert await asked(other, "{{ secret('db') }}") == []
    await other.data.delete("db")
    assert other.data.list() == []


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ((NEW,), "none of the keys in FLYTE_SECRETS_KEY_FILE decrypts it"),
        ((), "this server has no keys; set FLYTE_SECRETS_KEY_FILE"),
    ],
)
async def test_a_secret_that_no_key_decrypts_is_not_reported_as_missing(service, store, keys, why):
    other = await started(store, *keys)
    assert await asked(other, "{{ secret('db') }}") == []
    assert why in await shown(other)
    assert "not found" not in await shown(other)


@pytest.mark.parametrize("keys", [(NEW,), ()])
async def test_an_action_from_before_the_key_was_lost_fails_and_is_not_handed_out_with_a_reference(
    service, store, keys
):
    await asked(service, {"a": "{{ secret('db') }}"})
    await service.accept_event("Source", NewEvent("Said", b"{}"))
    other = await started(store, *keys)
    assert await other.take("Worker") == []
    execution = (await other.audit.list_executions(ExecutionFilter()))[0]
    assert b"The secret 'db' cannot be used: " in execution.actions[0].result.payload


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (
            (NEW,),
            "the keys in FLYTE_SECRETS_KEY_FILE are not those that this store was used with before",
        ),
        ((), "this server has no key for secrets; set FLYTE_SECRETS_KEY_FILE"),
    ],
)
async def test_a_secret_that_cannot_be_kept_is_refused_with_the_reason(service, store, keys, why):
    other = await started(store, *keys)
    with pytest.raises(InputError, match=why):
        await other.data.save(a_secret("more", "value"))


async def test_servers_take_over_secrets_from_each_other(service, store, monkeypatch):
    # The file has one server; what another would see is what this one sees when it looks anew.
    other = await started(store, OLD)
    await service.data.save(a_secret("token", "other value"))
    around = await store.read_change_counters()
    monkeypatch.setattr(store, "read_change_counters", lambda: _soon(type(around)(notes=1)))
    await other.refresh()
    assert [item.key for item in other.data.list()] == ["db", "token"]


async def _soon(value):
    return value


async def test_what_is_shown_and_what_is_secret_do_not_replace_each_other(service):
    await service.data.save(DataItem("open", "text/plain", b"x"))
    with pytest.raises(ConflictError, match="Delete 'open' first"):
        await service.data.save(a_secret("open", "x"))
    with pytest.raises(ConflictError, match="Delete 'db' first"):
        await service.data.save(DataItem("db", "text/plain", b"x"))


async def test_replacing_a_secret_gives_packs_the_new_value(service):
    assert not await service.data.save(a_secret("db", "changed"))
    [claimed] = await asked(service, "{{ secret('db') }}")
    assert json.loads(claimed.input) == "changed"


async def test_what_cannot_be_kept_secret_is_refused(store, service):
    with pytest.raises(InputError, match="UTF-8"):
        await service.data.save(a_secret("bytes", b"\xff"))
    with pytest.raises(InputError, match="FLYTE_SECRETS_KEY_FILE"):
        await (await started(store)).data.save(a_secret("a", "b"))


async def test_short_values_are_not_looked_for(service):
    await service.data.save(a_secret("short", "e"))
    [claimed] = await asked(service, {"text": "{{ secret('short') }} where"})
    assert json.loads(claimed.input) == {"text": "e where"}
    assert "*** where" in await shown(service)


async def test_a_secret_keeps_its_description_and_nobody_sees_whether_its_value_is_the_same(
    service, store
):
    await service.data.save(a_secret("db", "another value", "the database"))
    for value in ("another value", "a third value"):
        before = await store.list_notes("secret")
        assert await service.data.save(a_secret("db", value), keeps_description=True) is False
        assert await store.list_notes("secret") != before
        assert [(item.key, item.description) for item in service.data.list()] == [
            ("db", "the database")
        ]
    assert len(await service.audit.list_changes(AuditFilter())) == 4
