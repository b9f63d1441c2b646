"""Packs with their networks, as the setting `FLYTE_PACKS_WITHOUT_TOKEN` has them."""

import pytest

from flyteops.network import address_of, parse_pack_networks


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Shell@10.1.0.0/16", ["Shell@10.1.0.0/16"]),
        ("Shell@10.1.2.3, Ticker@fd00::/8", ["Shell@10.1.2.3/32", "Ticker@fd00::/8"]),
        ("Shell@10.1.2.3 Ticker@::1\n,", ["Shell@10.1.2.3/32", "Ticker@::1/128"]),
        ("Shell[env=dev, x=y]@10.0.0.1", ["Shell[env=dev,x=y]@10.0.0.1/32"]),
        ("Shell[*]@10.0.0.1", ["Shell[*]@10.0.0.1/32"]),
        ("Shell[]@10.0.0.1", ["Shell@10.0.0.1/32"]),
        ("My%20Pack%2C%40@10.0.0.1", ["My Pack,@@10.0.0.1/32"]),
        ("Shell@::ffff:10.1.0.0/112", ["Shell@10.1.0.0/16"]),
        ("", []),
    ],
)
def test_packs_and_their_networks_are_read(text: str, shown: list[str]) -> None:
    assert [str(each) for each in parse_pack_networks(text)] == shown


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.1.0.0/16", "give NAME@NETWORK"),
        ("@10.1.0.0/16", "give NAME@NETWORK"),
        ("Shell@", "give NAME@NETWORK"),
        ("*@10.1.0.0/16", "which is every pack; name each pack"),
        ("Shell@host.example.com", "not an address or a network"),
        ("Shell@10.1.2.3/16", "did you mean 10.1.0.0/16 or 10.1.2.3?"),
        ("Shell@10.1.0.0/33", "not an address or a network"),
        ("Shell@fe80::1%eth0", "leave out %eth0"),
        ("Shell[env]@10.1.0.0/16", "labels are not LABEL=VALUE"),
        ("Shell[env=dev@10.1.0.0/16", "give NAME@NETWORK"),
    ],
)
def test_what_is_not_a_pack_with_a_network_is_refused_with_the_reason(
    text: str, fault: str
) -> None:
    with pytest.raises(
        ValueError, match=fault.replace("*", r"\*").replace("?", r"\?").replace("[", r"\[")
    ):
        parse_pack_networks(text)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("fd00::1", "fd00::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", "None"),
        ("/run/flyte.sock", "None"),
    ],
)
def test_the_address_of_a_peer_is_that_of_its_version_of_ip(peer: str, address: str) -> None:
    assert str(address_of(peer)) == address
