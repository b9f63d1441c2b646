"""What a pack reads from its environment."""

from pathlib import Path

import msgspec
import pytest

from flyteops.errors import SettingsError
from flyteops.sdk import Environment, Pack, Reader, seconds


def problems_of(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        Environment.read(environ)
    assert all(str(problem) in str(caught.value) for problem in caught.value.problems)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_the_address_is_enough() -> None:
    environment = Environment.read({"FLYTE_API": "http://flyte.test:8080"})
    assert environment == Environment(api="http://flyte.test:8080")
    assert environment.timeout == 10
    assert environment.health_port is msgspec.UNSET


@pytest.mark.parametrize(
    ("environ", "api"),
    [
        ({"FLYTE_API_URL": "http://flyte.test"}, "http://flyte.test"),
        ({"FLYTE_API": " http://flyte.test/ "}, "http://flyte.test"),
        ({"FLYTE_API": "http://flyte.test/v1/"}, "http://flyte.test"),
        ({"FLYTE_API": "https://flyte.test/ops/flyte/"}, "https://flyte.test/ops/flyte"),
        ({"FLYTE_API": "http://one.test", "FLYTE_API_URL": "http://two.test"}, "http://one.test"),
        ({"FLYTE_API": "", "FLYTE_API_URL": "http://two.test"}, "http://two.test"),
    ],
)
def test_the_address_has_two_names_and_may_end_with_a_slash(
    environ: dict[str, str], api: str
) -> None:
    assert Environment.read(environ).api == api


def test_labels_are_trimmed_and_values_may_hold_an_equals_sign() -> None:
    environment = Environment.read(
        {"FLYTE_API": "http://f.test", "FLYTE_LABELS": " env = dev ,x=y=z"}
    )
    assert environment.labels == {"env": "dev", "x": "y=z"}


def test_everything_can_be_set() -> None:
    environ = {
        "FLYTE_API": "http://f.test",
        "FLYTE_JWT": "secret",
        "FLYTE_API_TIMEOUT": "0",
        "PACK_NAME": "Slack",
        "FLYTE_PACK_HEALTH_PORT": "off",
        "FLYTE_PACK_HEALTH_HOST": "[::1]",
        "FLYTE_PACK_POLL_INTERVAL": "500ms",
        "FLYTE_PACK_STOP_TIMEOUT": "2m",
        "LOGLEVEL": "DEBUG",
    }
    environment = Environment.read(environ)
    assert environment == Environment(
        api="http://f.test",
        token="secret",
        timeout=None,
        name="Slack",
        health_port=None,
        health_host="::1",
        poll_interval=0.5,
        stop_timeout=120,
        log_level="debug",
    )
    assert "secret" not in repr(environment)


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    assert problems_of(
        {
            "FLYTE_LABELS": "env=dev,broken",
            "FLYTE_API_TIMEOUT": "-1",
            "FLYTE_PACK_HEALTH_PORT": "99999",
            "FLYTE_PACK_POLL_INTERVAL": "often",
            "FLYTE_PACK_STOP_TIMEOUT": "soon",
            "FLYTE_CA_CERT_FILE": "/does/not/exist.pem",
            "LOGLEVEL": "loud",
            "FLYTE_JWT": "two words",
        }
    ) == {
        "FLYTE_API": "is not set: the server's address, such as http://localhost:8080",
        "FLYTE_LABELS": "'broken' is not of the form key=value",
        "FLYTE_JWT": "is not a token: it contains characters that a token cannot have",
        "FLYTE_API_TIMEOUT": "'-1' is not a number of whole seconds (0 means no limit)",
        "FLYTE_PACK_HEALTH_PORT": "'99999' is neither a port from 1 to 65535 nor off",
        "FLYTE_PACK_POLL_INTERVAL": "'often' is not a duration such as 30s, 5m or 1h30m",
        "FLYTE_PACK_STOP_TIMEOUT": "'soon' is not a duration such as 30s, 5m or 1h30m",
        "FLYTE_CA_CERT_FILE": (
            "cannot read certificates from '/does/not/exist.pem': No such file or directory"
        ),
        "LOGLEVEL": "'loud' is not one of debug, info, warning, error, critical",
    }
    assert "FLYTE_CA_CERT_FILE" in problems_of({"FLYTE_CA_CERT_FILE": str(tmp_path / "empty.pem")})


@pytest.mark.parametrize(
    "address", ["flyte.test:8080", "ftp://flyte.test", "http://", "http://f.test:port"]
)
def test_an_address_that_cannot_be_called_is_a_fault(address: str) -> None:
    assert set(problems_of({"FLYTE_API": address})) == {"FLYTE_API"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("30s", 30), (" 5 M ", 300), ("1.5h", 5400), ("2d", 172800), ("250ms", 0.25)],
)
def test_durations_are_written_as_people_do(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_a_pack_reads_settings_of_its_own_with_all_faults_at_once() -> None:
    reader = Reader({"A": "1", "B": "x", "C": "y", "D": " "})
    assert reader.read("A", int, 5) == 1
    assert reader.read("B", int, 5) == 5
    assert reader.read("C", seconds, 5) == 5
    assert reader.read("D", int, None) is None
    with pytest.raises(SettingsError) as caught:
        reader.finish()
    assert [problem.path for problem in caught.value.problems] == ["B", "C"]


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8090", "http://127.0.0.1", "0.0.0.0/0", "a b", "*", "[::1]:80"]
)
def test_the_address_of_health_is_an_address_without_a_port(text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"FLYTE_PACK_HEALTH_HOST: .* is not an address of this machine"
    ):
        Environment.read({"FLYTE_API": "http://f.test", "FLYTE_PACK_HEALTH_HOST": text})


@pytest.mark.parametrize(
    ("port", "given", "ports"),
    [
        (8090, None, range(8090, 8110)),
        (8090, "8090", range(8090, 8091)),
        (8090, "65530", range(65530, 65531)),
        (65530, None, range(65530, 65531)),
        (9000, None, range(9000, 9001)),
    ],
)
def test_only_a_health_port_that_nobody_chose_may_be_another(
    port: int, given: str | None, ports: range
) -> None:
    variables = {} if given is None else {"FLYTE_PACK_HEALTH_PORT": given}
    environment = Environment.read({"FLYTE_API": "http://f.test", **variables})
    endpoint = Pack("P", health_port=port).declaration(environment).health
    assert (endpoint.host, endpoint.ports) == ("127.0.0.1", ports)
