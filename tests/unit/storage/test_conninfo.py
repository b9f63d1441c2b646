"""Connection URIs of PostgreSQL as people and hosted services write them."""

from pathlib import Path

import pytest

from flyteops.errors import SettingsError
from flyteops.settings import Settings
from flyteops.storage import shown, store_faults
from flyteops.storage.conninfo import Host, Keepalive, parse_conninfo
from flyteops.url import without_password


@pytest.mark.parametrize(
    ("uri", "hosts", "database"),
    [
        ("postgresql://db.example.com/flyte", (("db.example.com", 5432),), "flyte"),
        ("postgres://db:6432/flyte", (("db", 6432),), "flyte"),
        ("postgresql://db1:5432,db2:5433/flyte", (("db1", 5432), ("db2", 5433)), "flyte"),
        ("postgresql://db1,db2/flyte?port=6000", (("db1", 6000), ("db2", 6000)), "flyte"),
        ("postgresql:///?host=db1,db2&port=1,2&dbname=flyte", (("db1", 1), ("db2", 2)), "flyte"),
        ("postgresql:///flyte?host=/var/run/postgresql", (("/var/run/postgresql", 5432),), "flyte"),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/flyte", (("/var/run/postgresql", 5432),), "flyte"),
        ("postgresql://[::1]:5433/flyte", (("::1", 5433),), "flyte"),
        ("postgresql:///?dbname=flyte", (), "flyte"),
        ("postgresql://db/a%2Fb", (("db", 5432),), "a/b"),
    ],
)
def test_hosts_and_database_stand_where_libpq_allows_them(
    uri: str, hosts: tuple[tuple[str, int], ...], database: str
) -> None:
    conninfo = parse_conninfo(uri)
    assert conninfo.hosts == tuple(Host(*host) for host in hosts)
    assert conninfo.database == database


def test_options_of_libpq_that_the_driver_does_not_know_are_read() -> None:
    conninfo = parse_conninfo(
        "postgresql://u:p@db/flyte?connect_timeout=9&keepalives=1&keepalives_idle=30&"
        "keepalives_interval=10&keepalives_count=3&tcp_user_timeout=2000&channel_binding=require&"
        "sslmode=require&gssencmode=disable&application_name=ours&search_path=flyte&"
        "target_session_attrs=read-write&options=endpoint%3Dx"
    )
    assert conninfo.connect_timeout == 9
    assert conninfo.keepalive == Keepalive(
        is_on=True, idle=30, interval=10, count=3, user_timeout=2000
    )
    assert conninfo.binds_channel
    assert conninfo.tls == {"sslmode": "require"}
    assert conninfo.startup == {"application_name": "ours", "options": "endpoint=x"}
    assert conninfo.settings == {"search_path": "flyte"}
    assert conninfo.driver == {"target_session_attrs": "read-write"}


def test_channel_binding_needs_an_encrypted_connection() -> None:
    assert parse_conninfo("postgresql://db/flyte?channel_binding=require").tls == {
        "sslmode": "require"
    }
    with pytest.raises(ValueError, match="channel_binding=require with sslmode=prefer"):
        parse_conninfo("postgresql://db/flyte?channel_binding=require&sslmode=prefer")


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("postgresql://db:x/flyte", "port that is not a number"),
        ("postgresql://db:99999/flyte", "port that is not a number"),
        ("postgresql://user:se?cret@db/flyte", "must be percent-encoded"),
        (
            "postgresql://db/flyte?connect_timeout=soon",
            "connect_timeout that is not a whole number",
        ),
        ("postgresql://db/flyte?sslmode=on", "sslmode that is not one of disable"),
        ("postgresql://db/flyte?sslrootcert=system&sslmode=require", "sslmode=verify-full"),
        ("postgresql://db/flyte?channel_binding=always", "channel_binding that is not one of"),
        (
            "postgresql://db/flyte?target_session_attrs=writable",
            "target_session_attrs that is not one of any, primary",
        ),
        (
            "postgresql://db/flyte?pgbouncer=true",
            "does not support; use FLYTE_STORE_DIRECT_URL with the address",
        ),
        ("postgresql://db/flyte?replication=database", "does not support; remove it"),
        ("postgresql://db/flyte?schema=ours", "search_path=NAME"),
        ("postgresql://db/flyte?ssl=true", "sslmode=require"),
        ("postgresql://db1,db2,db3/flyte?port=1,2", "names 2 ports for 3 hosts"),
        ("postgresql://db/flyte?sslmode", "in the form name=value"),
        ("postgresql://db/flyte?gssencmode=require", "GSSAPI"),
        (
            "postgresql://db/flyte?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
            "'/nowhere/ca.pem', which cannot be read",
        ),
    ],
)
def test_a_fault_names_the_option_and_the_way_out_but_no_password(uri: str, fault: str) -> None:
    [found] = store_faults(uri)
    assert fault in found
    assert "cret" not in found


def test_a_file_of_authorities_that_holds_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("not a certificate")
    [fault] = store_faults(f"postgresql://db/flyte?sslmode=verify-full&sslrootcert={path}")
    assert str(path) in fault
    assert "no certificate" in fault


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("postgresql://flyte:secret@db/flyte?password=secret", "postgresql://flyte@db/flyte"),
        ("postgresql://flyte:p@ss/secret@db:5432/flyte", "postgresql://flyte@db:5432/flyte"),
        (
            "postgresql:///?host=db&user=flyte&password=secret&dbname=flyte",
            "postgresql://flyte@db/flyte",
        ),
        ("postgresql://flyte:se?secret@db/flyte", "postgresql://..."),
        ("mongodb://flyte:se?secret@db/flyte?x=y", "mongodb://flyte@db/flyte"),
    ],
)
def test_a_password_is_never_shown(uri: str, text: str) -> None:
    assert shown(uri) == text
    assert "secret" not in without_password(uri).replace("***", "")


@pytest.mark.parametrize(
    "text",
    [
        "host=db user=flyte password=secret dbname=flyte",
        "password = secret host=db",
        r"host=db password='se\'cret secret' user=flyte",
        r"host=db password=a\ secret",
        "host=db PASSWORD='secret",
        "host=db sslpassword=secret",
        "postgresql://db/flyte?PASSWORD=secret",
    ],
)
def test_a_password_in_another_notation_is_not_shown_either(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"FLYTE_STORE": text.replace("postgresql:", "postgres+x:")})
    (problem,) = caught.value.problems
    assert "secret" not in problem.message
    assert "db" in problem.message


def test_the_database_may_be_named_by_an_option() -> None:
    settings = Settings.from_environment({"FLYTE_STORE": "postgresql:///?host=/tmp&dbname=flyte"})
    assert settings.store.endswith("dbname=flyte")
