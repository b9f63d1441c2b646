"""An OpenID provider in this process, whose keys, answers and tokens a test chooses."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from tests.api.conftest import running

PRIVATE = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "RSA2": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "Ed448": ed448.Ed448PrivateKey.generate(),
}


def jwk(name: str, **more: Any) -> dict[str, Any]:
    """Return a public key as providers publish it; its id is its name unless another is given."""
    algorithm = {"RSA": "RS256", "RSA2": "RS256", "Ed448": "EdDSA"}.get(name, name)
    entry = json.loads(get_default_algorithms()[algorithm].to_jwk(PRIVATE[name].public_key()))
    entry.pop("key_ops", None)
    return {
        key: value
        for key, value in {"kid": name, "use": "sig", **entry, **more}.items()
        if value is not None
    }


class Provider:
    """The provider as an ASGI app. `url` is set once it runs; `asked` counts how often its keys
    were asked for.
    """

    def __init__(self) -> None:
        self.url = ""
        self.keys = [jwk(name) for name in ("RSA", "ES256")]
        self.discovery: dict[str, Any] = {}
        self.is_away = False
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        value: Any = None
        if scope["path"] == "/.well-known/openid-configuration":
            value = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.discovery}
        elif scope["path"] == "/keys":
            self.asked += 1
            value = {"keys": self.keys}
        status = 503 if self.is_away else 404 if value is None else 200
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {
                "type": "http.response.body",
                "body": b"" if self.is_away else json.dumps(value).encode(),
            }
        )

    def claims(self, **claims: Any) -> dict[str, Any]:
        """Return claims that are valid now; None leaves one out."""
        now = int(time.time())
        valid = {"iss": self.url, "aud": "flyte", "exp": now + 300, "iat": now, "groups": ["ops"]}
        return {name: value for name, value in {**valid, **claims}.items() if value is not None}

    def token(
        self, key: str = "RSA", algorithm: str | None = None, headers: Any = None, **claims: Any
    ) -> str:
        algorithm = algorithm or {"RSA": "RS256", "RSA2": "RS256", "Ed448": "EdDSA"}.get(key, key)
        head = {
            name: value
            for name, value in {"kid": key, **(headers or {})}.items()
            if value is not None
        }
        return jwt.encode(self.claims(**claims), PRIVATE[key], algorithm, head)


@contextlib.contextmanager
def serving(provider: Provider) -> Iterator[Provider]:
    """Let a provider answer from a thread, for tests that wait for other processes."""
    ready = threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with running(provider, http="httptools") as server:
            provider.url = f"http://127.0.0.1:{server.port}"
            end = asyncio.Event()
            ends.append((asyncio.get_running_loop(), end))
            ready.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    ready.wait()
    yield provider
    loop, end = ends[0]
    loop.call_soon_threadsafe(end.set)
    thread.join()
