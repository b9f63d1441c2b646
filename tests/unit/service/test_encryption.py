"""The encryption of secrets: its tokens are plain Fernet tokens, and its keys can be rotated."""

import pytest
from cryptography.fernet import Fernet

from flyteops.service.encryption import Encryptor

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_a_plain_fernet_token_is_read_and_the_other_way_round():
    assert Encryptor([NEW, OLD]).decrypt(Fernet(OLD).encrypt(b"text")) == b"text"
    assert Fernet(NEW).decrypt(Encryptor([NEW, OLD]).encrypt(b"text")) == b"text"


def test_after_a_rotation_older_tokens_are_readable_and_not_current():
    rotated = Encryptor([NEW, OLD])
    old, new = Encryptor([OLD]).encrypt(b"text"), rotated.encrypt(b"text")
    assert [(rotated.decrypt(token), rotated.is_current(token)) for token in (old, new)] == [
        (b"text", False),
        (b"text", True),
    ]


@pytest.mark.parametrize(
    "token",
    [b"", b"not a token", Fernet(OLD).encrypt(b"text")],
    ids=["empty", "damaged", "of another key"],
)
def test_a_token_that_no_key_fits_is_none(token):
    assert Encryptor([NEW]).decrypt(token) is None
