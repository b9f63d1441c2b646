"""Encryption of secrets: Fernet tokens (AES-128-CBC with HMAC-SHA256), with several keys."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class Encryptor:
    """Encrypts with the first of its keys, and decrypts with any.

    A key is 32 bytes in URL-safe base64; at least one is required.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._all = MultiFernet([Fernet(key) for key in keys])
        self._current = Fernet(keys[0])

    def encrypt(self, text: bytes) -> bytes:
        """Encrypt with the first key."""
        return self._all.encrypt(text)

    def decrypt(self, token: bytes) -> bytes | None:
        """Decrypt; return None if no key fits."""
        return _decrypted(self._all, token)

    def is_current(self, token: bytes) -> bool:
        """Return whether the token was encrypted with the first key."""
        return _decrypted(self._current, token) is not None


def _decrypted(cipher: Fernet | MultiFernet, token: bytes) -> bytes | None:
    try:
        return cipher.decrypt(token)
    except InvalidToken:
        return None
