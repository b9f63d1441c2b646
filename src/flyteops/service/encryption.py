"""Encryption of secrets: Fernet tokens (AES-128-CBC with HMAC-SHA256).

They are made with the first of some keys.
"""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken


class Encryptor:
    """Encrypts with the first of its keys, and decrypts with any.

    A key is 32 bytes in URL-safe base64; at least one is required.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._ciphers = [Fernet(key) for key in keys]

    def encrypt(self, text: bytes) -> bytes:
        """Encrypt."""
        return self._ciphers[0].encrypt(text)

    def decrypt(self, token: bytes) -> bytes | None:
        """Decrypt; return None if none of the keys fits."""
        return next((text for cipher in self._ciphers if (text := _opened(cipher, token)) is not None), None)

    def is_current(self, token: bytes) -> bool:
        """Return whether it was encrypted with the first key."""
        return _opened(self._ciphers[0], token) is not None


def _opened(cipher: Fernet, token: bytes) -> bytes | None:
    try:
        return cipher.decrypt(token)
    except InvalidToken:
        return None
