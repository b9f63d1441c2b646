"""The settings: every one in one table, every fault at once."""

from datetime import timedelta
from pathlib import Path

import pytest

from flyteops.errors import SettingsError
from flyteops.settings import Settings, option_of, table, unknown_variables
from flyteops.settings.page import reference

PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"


def faults(environ, overrides=None):
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ, overrides or {})
    return {problem.path: problem.message for problem in caught.value.problems}


def test_an_empty_environment_gives_the_defaults():
    assert Settings.from_environment({}) == Settings()


def test_nobody_but_this_computer_reaches_a_server_without_settings():
    assert Settings().host == "127.0.0.1"


def test_every_variable_that_existing_installations_set_is_known():
    variables = {setting.variable for _, setting in table()}
    assert variables >= {
        "FLYTE_PORT",
        "FLYTE_TLS_CERT_PATH",
        "FLYTE_TLS_KEY_PATH",
        "FLYTE_MGO_HOST",
        "FLYTE_TTL_IN_SECONDS",
        "FLYTE_AUTH_POLICY_PATH",
        "FLYTE_OIDC_ISSUER_URL",
        "FLYTE_OIDC_ISSUER_CLIENT_ID",
        "FLYTE_SHOULD_DELETE_DEAD_PACKS",
        "FLYTE_DELETE_DEAD_PACKS_AT_HH_COLON_MM",
        "FLYTE_PACK_GRACE_PERIOD_UNTIL_MARKED_DEAD_IN_SECONDS",
        "LOGLEVEL",
        "LOGFILE",
    }


def test_names_of_variables_and_options_are_used_once():
    variables = [setting.variable for _, setting in table()]
    options = [option_of(field) for field, _ in table()]
    assert len(set(variables)) == len(variables)
    assert len(set(options)) == len(options)


@pytest.mark.parametrize(
    "variable", ["FLYTE_MAX_CONNECTIONS", "FLYTE_STORE_POOL_SIZE", "FLYTE_WORKERS"]
)
@pytest.mark.parametrize("value", ["0", "-1", "1h", "99999999999"])
def test_a_number_that_is_too_small_too_large_or_has_a_unit_is_refused_with_the_least_one(
    variable, value
):
    message = faults({variable: value})[variable]
    assert message.startswith(f"{value!r} is not a number of ")
    assert "from 1 to" in message or "at least 1" in message


@pytest.mark.parametrize("value", ["0", "-1", "0.5", "999ms", "an hour", "99999999999", "4000d"])
def test_a_duration_that_is_too_short_too_long_or_unreadable_is_refused_with_examples(value):
    message = faults({"FLYTE_IDLE_TIMEOUT": value})["FLYTE_IDLE_TIMEOUT"]
    assert message == (
        f"{value!r} is not a duration of at least 1 s; give seconds such as 90, or a duration"
        " such as 1m30s or 7d"
    )


@pytest.mark.parametrize("value", ["61m", "3601", "-1", "soon"])
def test_a_delay_is_an_hour_at_most(value):
    message = faults({"FLYTE_SHUTDOWN_DELAY": value})["FLYTE_SHUTDOWN_DELAY"]
    assert message == (
        f"{value!r} is not a duration up to an hour; give seconds such as 30, or a duration"
        " such as 1m30s"
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90", 90), ("1m30s", 90), ("7d", 604_800), ("1 H", 3600), ("9999999999", 9_999_999_999)],
)
def test_times_are_seconds_or_durations(value, seconds):
    settings = Settings.from_environment({"FLYTE_TTL_IN_SECONDS": value})
    assert settings.keep_for == timedelta(seconds=seconds)


def test_values_are_read_to_their_types():
    settings = Settings.from_environment(
        {
            "FLYTE_HOST": "[::1]",
            "FLYTE_PORT": " 9000 ",
            "FLYTE_TTL_IN_SECONDS": "60",
            "FLYTE_SHOULD_DELETE_DEAD_PACKS": "True",
            "FLYTE_DELETE_DEAD_PACKS_AT_HH_COLON_MM": "7:05",
            "FLYTE_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000/",
            "LOGLEVEL": "WARN",
            "LOGFILE": "flyte.log",
            "FLYTE_STORE": "sqlite:////var/lib/flyte.db",
        }
    )
    assert (settings.host, settings.port, settings.keep_for) == ("::1", 9000, timedelta(minutes=1))
    assert (settings.delete_dead_packs, settings.dead_packs_at) == (True, "07:05")
    assert settings.allowed_origins == ("https://a.example", "http://localhost:3000")
    assert (settings.log_level, settings.log_file, settings.store) == (
        "warning",
        "flyte.log",
        "sqlite:////var/lib/flyte.db",
    )


def test_blank_counts_as_not_given():
    assert (
        Settings.from_environment({"FLYTE_PORT": "", "FLYTE_HOST": "  ", "FLYTE_MGO_HOST": ""})
        == Settings()
    )


def test_an_option_goes_before_the_variable():
    assert Settings.from_environment({"FLYTE_PORT": "1"}, {"port": "2"}).port == 2


def test_a_fault_names_the_option_if_that_is_where_it_is():
    assert set(faults({"FLYTE_PORT": "1"}, {"port": "x"})) == {"--port"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FLYTE_PORT", "65536"),
        ("FLYTE_PORT", "-1"),
        ("FLYTE_PORT", "\uff18\uff10"),
        ("FLYTE_HOST", "localhost:8080"),
        ("FLYTE_HOST", "http://localhost"),
        ("FLYTE_TTL_IN_SECONDS", "0"),
        ("FLYTE_TTL_IN_SECONDS", "a year"),
        ("FLYTE_MAX_BODY_BYTES", "10M"),
        ("FLYTE_SHOULD_DELETE_DEAD_PACKS", "maybe"),
        ("FLYTE_DELETE_DEAD_PACKS_AT_HH_COLON_MM", "24:00"),
        ("FLYTE_DELETE_DEAD_PACKS_AT_HH_COLON_MM", "23:60"),
        ("FLYTE_ALLOWED_ORIGINS", "*"),
        ("FLYTE_ALLOWED_ORIGINS", "https://a.example/path"),
        ("FLYTE_STORE", "flyte.db"),
        ("FLYTE_STORE", "sqlite://flyte.db"),
        ("FLYTE_OIDC_ISSUER_URL", "login.example.com"),
        ("FLYTE_OIDC_ISSUER_URL", "https://login.example.com/?realm=x"),
        ("LOGLEVEL", "loud"),
    ],
)
def test_what_cannot_be_read_is_told_with_name_value_and_remedy(variable, value):
    message = faults({variable: value})[variable]
    assert value in message
    assert "give " in message


@pytest.mark.parametrize("given", [1, 2])
def test_auth_by_an_openid_provider_needs_all_of_its_settings(given):
    values = {
        "FLYTE_AUTH_POLICY_PATH": "p.yaml",
        "FLYTE_OIDC_ISSUER_URL": "https://i.example/x/",
        "FLYTE_OIDC_ISSUER_CLIENT_ID": "f",
    }
    told = faults(dict(list(values.items())[:given]))
    assert list(told) == list(values)[given:]
    assert all("is not set, but FLYTE_AUTH_POLICY_PATH is" in message for message in told.values())
    settings = Settings.from_environment(values)
    assert settings.has_auth
    assert settings.oidc_issuer_url == "https://i.example/x/"


@pytest.mark.parametrize(
    ("given", "store"),
    [
        ("db", "mongodb://db"),
        ("db:27017", "mongodb://db:27017"),
        ("one:27017,two:27018", "mongodb://one:27017,two:27018"),
        ("db/", "mongodb://db"),
        ("db/admin", "mongodb://db/flyte"),
        ("me:secret@db/admin", "mongodb://me:secret@db/flyte?authSource=admin"),
        ("me:secret@db/?maxPoolSize=9", "mongodb://me:secret@db/?maxPoolSize=9"),
        (
            "me:se%2Fcret@db:27017/flows?authSource=admin",
            "mongodb://me:se%2Fcret@db:27017/flyte?authSource=admin",
        ),
        (
            "one,two/users?replicaSet=rs0&connect=replicaSet",
            "mongodb://one,two/flyte?replicaSet=rs0",
        ),
        (
            "me:ab@one/us%20ers?connect=direct",
            "mongodb://me:ab@one/flyte?directConnection=true&authSource=us%20ers",
        ),
        ("mongodb://db/flyte", "mongodb://db/flyte"),
        ("mongodb+srv://cluster.example/flyte", "mongodb+srv://cluster.example/flyte"),
    ],
)
def test_the_variable_of_the_original_selects_its_database(given, store):
    assert Settings.from_environment({"FLYTE_MGO_HOST": given}).store == store


@pytest.mark.parametrize(
    "given",
    [
        "mongodb://db/flyte",
        "mongodb+srv://cluster.example/flows",
        "mongodb://me:a@db/x?authSource=y",
    ],
)
def test_a_store_in_mongodb_is_the_database_that_is_named(given):
    assert Settings.from_environment({"FLYTE_STORE": given}).store == given


def test_two_stores_are_one_too_many():
    assert (
        "unset one of them"
        in faults({"FLYTE_MGO_HOST": "db", "FLYTE_STORE": "sqlite:///flyte.db"})["FLYTE_MGO_HOST"]
    )


@pytest.mark.parametrize("variable", ["FLYTE_STORE", "FLYTE_MGO_HOST"])
def test_no_password_is_in_what_is_said_about_a_store(variable):
    message = faults({variable: "mongodb://me:secret@:27017:x /"})[variable]
    assert "secret" not in message
    assert "mongodb://me:***@" in message


def test_a_store_on_a_server_needs_a_database():
    assert "names no database" in faults({"FLYTE_STORE": "postgresql://db:5432"})["FLYTE_STORE"]


def test_all_faults_are_told_at_once():
    environ = {
        "FLYTE_PORT": "x",
        "FLYTE_HOST": "?",
        "LOGLEVEL": "loud",
        "FLYTE_TLS_KEY_PATH": "key.pem",
        "FLYTE_MGO_HOST": "/",
    }
    assert set(faults(environ)) == {
        "FLYTE_PORT",
        "FLYTE_HOST",
        "LOGLEVEL",
        "FLYTE_TLS_CERT_PATH",
        "FLYTE_MGO_HOST",
    }


def test_tls_needs_both_files():
    assert set(faults({"FLYTE_TLS_CERT_PATH": "cert.pem"})) == {"FLYTE_TLS_KEY_PATH"}
    assert set(faults({"FLYTE_TLS_CERT_PATH": "cert.pem"}, {"tls_key_path": ""})) == {
        "--tls-key-path"
    }


def test_the_port_is_another_one_with_tls_unless_it_is_given():
    tls = {"FLYTE_TLS_CERT_PATH": "cert.pem", "FLYTE_TLS_KEY_PATH": "key.pem"}
    assert Settings.from_environment(tls).port == 8443
    assert Settings.from_environment({**tls, "FLYTE_PORT": "8080"}).port == 8080


def test_an_unknown_variable_is_pointed_out_with_the_nearest_name():
    warnings = unknown_variables({"FLYTE_PROT": "1", "FLYTE_ALOWED_ORIGINS": "", "PATH": "/bin"})
    assert [warning.path for warning in warnings] == ["FLYTE_ALOWED_ORIGINS", "FLYTE_PROT"]
    assert "did you mean FLYTE_ALLOWED_ORIGINS?" in warnings[0].message
    assert "did you mean FLYTE_PORT?" in warnings[1].message


def test_no_name_is_guessed_for_what_resembles_nothing():
    assert "did you mean" not in unknown_variables({"FLYTE_ZEBRA_CROSSING": ""})[0].message


@pytest.mark.parametrize(
    "variable",
    [
        "FLYTE_API",
        "FLYTE_LABELS",
        "FLYTE_JWT",
        "FLYTE_JWT_FILE",
        "FLYTE_PACK_HEALTH_PORT",
        "FLYTE_SHELL_TIMEOUT",
        "FLYTE_CHAT_CHANNELS",
    ],
)
def test_variables_of_packs_are_no_mistake(variable):
    assert unknown_variables({variable: "x"}) == []


def test_the_reference_page_is_what_the_table_says():
    assert PAGE.read_text() == reference()


def test_keys_of_secrets_are_read_and_never_repeated():
    key = "A" * 43 + "="
    assert Settings.from_environment({"FLYTE_SECRETS_KEYS": f"{key}, {key}"}).secrets_keys == (
        key,
        key,
    )
    assert faults({"FLYTE_SECRETS_KEYS": f"{key},topsecret"}) == {
        "FLYTE_SECRETS_KEYS": (
            "the given value is not a list of keys for secrets; `flyte data new-key` makes one"
        )
    }
