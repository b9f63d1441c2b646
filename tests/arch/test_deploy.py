"""What we ship for containers fits what the server is: no engine runs here, so the files
themselves are looked at.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from flyteops.cli.root import COMMANDS
from flyteops.sdk import Environment
from flyteops.server.http import GRACE
from flyteops.server.workers import DEADLINE
from flyteops.settings import Settings, table
from flyteops.web.api.handlers import MAX_WAIT

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
HAPROXY = (ROOT / "deploy" / "postgres" / "haproxy.cfg").read_text()
COMPOSE_FILES = sorted((ROOT / "deploy").glob("*/compose.yaml"))
PINNED = r"^([a-z0-9._-]+)==(\S+)"
KNOWN = {setting.variable for _, setting in table()}


def instructions(name):
    """Return what the last stage of the Dockerfile says with this instruction."""
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    return re.findall(rf"^{name} (.*)$", last, re.MULTILINE)


def services(path, image="flyte"):
    found = yaml.safe_load(path.read_text())["services"]
    return {name: service for name, service in found.items() if service.get("image") == image}


def test_the_image_runs_as_a_user_without_rights():
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), (
        "a number, so that engines can see that it is not root"
    )
    assert f"--uid {user.partition(':')[0]} " in DOCKERFILE


def test_the_image_starts_the_server_itself_so_that_signals_reach_it():
    (entrypoint,), (command,) = instructions("ENTRYPOINT"), instructions("CMD")
    words = json.loads(entrypoint) + json.loads(command)
    assert words == ["flyte", "serve"]
    assert "serve" in COMMANDS


def test_the_image_asks_the_server_whether_it_is_well():
    (check,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert json.loads(check) == ["flyte", "health"]
    assert "health" in COMMANDS


def test_the_image_keeps_its_data_in_the_volume_and_listens_where_it_says():
    assert instructions("VOLUME") == instructions("WORKDIR") == ["/data"]
    assert Settings().store == "sqlite:///flyte.db"
    assert instructions("EXPOSE") == [str(Settings().port)]


def test_every_variable_of_the_image_is_one_that_somebody_reads():
    names = re.findall(r"(\w+)=", " ".join(instructions("ENV")))
    packs = Environment.read({"FLYTE_API": "http://server", "FLYTE_PACK_HEALTH_HOST": "0.0.0.0"})
    assert packs.health_host == "0.0.0.0"
    assert {name for name in names if name.startswith("FLYTE_")} <= KNOWN | {
        "FLYTE_PACK_HEALTH_HOST"
    }
    assert "FLYTE_PACK_HEALTH_HOST=0.0.0.0" in " ".join(instructions("ENV"))
    assert "FLYTE_HOST=0.0.0.0" in " ".join(instructions("ENV"))


def test_only_what_the_image_needs_is_sent_to_the_engine():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    needed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert needed == {
        "deploy/install",
        "requirements/*.lock",
        "src",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    }
    for name in needed:
        assert list(ROOT.glob(name)), name


def test_what_the_image_installs_is_locked_with_hashes_and_has_every_driver():
    image, build, run = (
        (ROOT / "requirements" / f"{name}.lock").read_text() for name in ("image", "build", "run")
    )
    versions = dict(re.findall(PINNED, image, re.MULTILINE))
    assert {"asyncpg", "pymongo"} <= set(versions)
    assert image.count("--hash=sha256:") > len(versions)
    assert (
        dict(re.findall(PINNED, run, re.MULTILINE)).items()
        <= (versions | dict(re.findall(PINNED, build, re.MULTILINE))).items()
    )
    for command in re.findall(r"install .*-r (\S+)", (ROOT / "deploy" / "install").read_text()):
        assert (ROOT / command).exists()


@pytest.mark.parametrize("script", ["deploy/install", ".ci/image", ".ci/run"])
def test_the_scripts_can_be_run(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.parent.name)
def test_every_variable_of_a_compose_file_is_a_setting(path):
    for service in services(path).values():
        variables = set(service.get("environment", {}))
        assert variables <= KNOWN
        settings = {
            name: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", str(value))
            for name, value in service["environment"].items()
        }
        Settings.from_environment(settings)


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.parent.name)
def test_the_servers_of_a_compose_file_have_no_rights_and_time_to_end(path):
    assert services(path)
    for service in services(path).values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["stop_grace_period"] == "20s"
        assert (path.parent / service["build"]).resolve() == ROOT
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "without auth only this machine may reach it"


def test_the_proxy_has_a_place_for_every_server_and_is_told_where_they_are():
    path = ROOT / "deploy" / "postgres" / "compose.yaml"
    proxy = yaml.safe_load(path.read_text())["services"]["proxy"]
    assert set(re.findall(r'"\$\{(\w+)\}"', HAPROXY)) == set(proxy["environment"])
    assert {
        proxy["environment"][f"SERVER_{number}"].partition(":")[0] for number in (1, 2, 3)
    } == set(services(path))


def test_the_proxy_waits_longer_than_any_pack():
    for which in ("client", "server"):
        (seconds,) = re.findall(rf"timeout {which} (\d+)s", HAPROXY)
        assert int(seconds) > MAX_WAIT + 20
    assert "GET /health/ready" in HAPROXY


def test_the_manifest_gives_servers_time_to_end_and_asks_for_what_they_answer():
    deployment, service = yaml.safe_load_all(
        (ROOT / "deploy" / "kubernetes" / "flyte.yaml").read_text()
    )
    pod = deployment["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    environ = {
        each["name"]: each.get("value", "postgresql://flyte@database/flyte")
        for each in server["env"]
    }
    assert set(environ) <= KNOWN
    settings = Settings.from_environment(environ)
    assert (
        pod["terminationGracePeriodSeconds"] >= settings.shutdown_delay.total_seconds() + GRACE + 10
    )
    assert server["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert server["securityContext"]["readOnlyRootFilesystem"] is True
    assert server["volumeMounts"][0]["mountPath"] == instructions("WORKDIR")[0]
    assert (
        service["spec"]["ports"][0]["port"]
        == server["ports"][0]["containerPort"]
        == Settings().port
    )


def test_the_unit_of_systemd_passes_signals_on_and_waits_for_the_end():
    unit = dict(
        re.findall(
            r"^(\w+)=(.*)$",
            (ROOT / "deploy" / "systemd" / "flyte.service").read_text(),
            re.MULTILINE,
        )
    )
    assert unit["ExecStart"].endswith("/bin/flyte serve")
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert unit["KillMode"] == "mixed"
    assert int(unit["TimeoutStopSec"]) > DEADLINE


def test_the_workflow_for_contributors_runs_verbs_of_the_makefile():
    verbs = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert set(re.findall(r"run: make ([a-z0-9-]+)", workflow)) == {"test", "check"} <= set(verbs)
    assert (ROOT / ".ci/run").exists()
