"""The page of the hooks works in a real browser: what came, what became of it, and why some was
refused; with auth, too.
"""

import hmac
import json

import httpx2
import pytest

from tests.e2e.browser import Browser
from tests.e2e.server import READY
from tests.e2e.test_auth import flyte

pytestmark = pytest.mark.slow

MEAN = json.dumps(
    {"x": "<img src=/x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"}
).encode()


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path / "browser") as browser:
        yield browser


def text_has(text):
    return f"document.getElementById('hooks').innerText.includes({json.dumps(text)})"


def test_a_person_sees_what_was_called_which_flow_reacted_and_why_a_call_was_refused(
    serve, browser, tmp_path
):
    server = serve(FLYTE_AUTH="tokens")
    url = server.read_until(READY)[1]
    token = (tmp_path / "flyte.db.admin-token").read_text().strip()
    admin = {"FLYTE_API": url, "FLYTE_JWT": token}
    code, out, err = flyte("hooks", "create", "github", "--vendor", "github", **admin)
    assert (code, "no key for secrets" in err) == (0, True)
    address, secret = (line.split()[1] for line in out.splitlines())
    flow = {
        "name": "tell",
        "steps": [
            {
                "id": "it",
                "event": {"packName": "Webhook", "name": "github"},
                "command": {"packName": "P", "name": "C"},
            }
        ],
    }
    httpx2.post(
        f"{url}/v1/flows", json=flow, headers={"Authorization": f"Bearer {token}"}
    ).raise_for_status()
    signature = "sha256=" + hmac.new(secret.encode(), MEAN, "sha256").hexdigest()
    headers = {"Content-Type": "application/json", "X-GitHub-Event": "push"}
    assert (
        httpx2.post(
            address, content=MEAN, headers={**headers, "X-Hub-Signature-256": signature}
        ).status_code
        == 202
    )
    assert (
        httpx2.post(
            address, content=b"{}", headers={**headers, "X-Hub-Signature-256": signature}
        ).status_code
        == 401
    )

    browser.open(f"{url}/hooks")
    browser.wait_for("document.getElementById('entry')?.hidden === false")
    assert browser.run("document.getElementById('hooks').innerText") == ""
    # That the first request was refused, which is why the page asks for a token.
    browser.said.clear()
    browser.run(
        f"document.getElementById('token').value = {json.dumps(token)};"
        " document.getElementById('enter').click()"
    )
    browser.wait_for(text_has("accepted"))
    browser.wait_for(text_has("refused X-Hub-Signature-256 does not match the body"))
    browser.run("document.querySelectorAll('details').forEach((call) => call.open = true)")
    browser.wait_for(text_has("tell / it: ran"))
    shown = browser.run("document.getElementById('hooks').innerText")
    assert "x-hub-signature-256: ***" in shown
    assert "onerror" in shown
    assert signature not in shown
    assert browser.run("document.title") == "Flyte hooks"
    browser.run("document.querySelector('#hook-github button').click()")
    browser.wait_for(text_has("flyte hooks test"))
    assert browser.said == []


def test_without_auth_there_is_nothing_to_enter_and_hooks_to_make(server, browser):
    browser.open(f"{server}/hooks")
    browser.wait_for("document.getElementById('hooks')?.innerText.includes('flyte hooks create')")
    assert browser.run("document.getElementById('entry').hidden")
    assert browser.said == []


def test_the_command_line_makes_shows_rotates_and_deletes_hooks(server, tmp_path):
    where = {"FLYTE_API": server}
    given = tmp_path / "secret"
    given.write_text("correct horse battery\n")
    code, out, _ = flyte(
        "hooks",
        "create",
        "ci",
        "--secret-file",
        str(given),
        "--header",
        "X-Sig",
        "--prefix",
        "",
        **where,
    )
    assert (code, out) == (0, f"url     {server}/v1/hooks/ci\n")
    assert httpx2.post(
        f"{server}/v1/hooks/ci",
        content=b"[1]",
        headers={"X-Sig": hmac.new(b"correct horse battery", b"[1]", "sha256").hexdigest()},
    ).is_success
    body = tmp_path / "body.txt"
    body.write_text("hello")
    code, out, _ = flyte("hooks", "test", "ci", "--file", str(body), **where)
    assert (code, out.split()[0]) == (0, "accepted")
    code, out, _ = flyte("hooks", "calls", "ci", "--bodies", **where)
    assert code == 0
    assert "x-sig: ***" in out
    assert "hello" in out
    assert flyte("hooks", "rotate", "ci", "--keep-old-for", "0s", **where)[0] == 0
    code, out, _ = flyte("hooks", "show", "ci", **where)
    assert code == 0
    assert out.count("secret ") == 1
    assert "correct horse" not in out
    assert "ci" in flyte("hooks", "list", **where)[1]
    assert flyte("hooks", "create", "bad name", **where)[0] == 1
    assert flyte("hooks", "delete", "ci", **where)[:2] == (0, "deleted hook ci\n")
    code, _, err = flyte("hooks", "test", "ci", **where)
    assert (code, err) == (1, "flyte: there is no hook 'ci'\n")
