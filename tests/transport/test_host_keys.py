"""Which pinned key belongs to a host: a key that is overlooked, or taken for another host's, is
how somebody listens in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from inventory import Host
from provisioner import trust
from provisioner.errors import BlockedError, HostKeyChanged, UnknownHostKey
from provisioner.transport.known_hosts import fingerprint, pinned_keys
from provisioner.transport.ssh_client import RefuseUnknown, new_client, new_link, pinned_first
from provisioner.transport.target import Target, parse_options, resolve

ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIKgXTkj4THbctZCrWzot1jA6ILdu6rVpbmLPK/KMOR4p"
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIJgJ4Xng7+Zlo3n0kGGo0tqIgOxKOJTq7IyPswIWZVCp"
KIND = "ssh-ed25519"


def target(*lines: str, tmp_path: Path, options: str = "hostname 192.0.2.7") -> Target:
    file = tmp_path / "known"
    file.write_text("".join(f"{line}\n" for line in lines))
    found = resolve(Host("gpu01", "gpu01"), read_options=lambda _: parse_options(options))
    return replace(found, known_hosts=(tmp_path / "missing", file))


def hashed(name: str) -> str:
    """As ``ssh-keygen -H`` writes a name."""
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    "name", ["192.0.2.7", "other.example,192.0.2.7", hashed("192.0.2.7")], ids=str
)
def test_a_key_is_found_under_its_name(name: str, tmp_path: Path) -> None:
    place = target(f"{name} {KIND} {ED25519} a comment", tmp_path=tmp_path)
    assert pinned_keys(place) == {KIND: ED25519}


@pytest.mark.parametrize("name", ["192.0.2.*", "*,!10.*", "192.0.2.?", "GPU*,192.0.2.7"])
def test_a_pattern_matches_as_in_ssh(name: str, tmp_path: Path) -> None:
    assert pinned_keys(target(f"{name} {KIND} {ED25519}", tmp_path=tmp_path)) == {KIND: ED25519}


@pytest.mark.parametrize(
    "name",
    [
        "*,!192.0.2.7",
        "192.0.2.[7]",
        "192.0.2.8",
        "192.0.2.70",
        "[192.0.2.7]:2222",
        hashed("192.0.2.8"),
        "gpu01",
        "#192.0.2.7",
    ],
)
def test_another_hosts_key_is_not_taken(name: str, tmp_path: Path) -> None:
    assert pinned_keys(target(f"{name} {KIND} {ED25519}", tmp_path=tmp_path)) == {}


@pytest.mark.parametrize("name", ["[192.0.2.7]:2222", hashed("[192.0.2.7]:2222")])
def test_a_key_belongs_to_one_port(name: str, tmp_path: Path) -> None:
    line = f"{name} {KIND} {ED25519}"
    options = "hostname 192.0.2.7\nport 2222"
    assert pinned_keys(target(line, tmp_path=tmp_path, options=options)) == {KIND: ED25519}
    assert pinned_keys(target(line, tmp_path=tmp_path)) == {}


def test_a_host_key_alias_is_the_name(tmp_path: Path) -> None:
    options = "hostname 192.0.2.7\nport 2222\nhostkeyalias gpu-one"
    place = target(f"gpu-one {KIND} {ED25519}", tmp_path=tmp_path, options=options)
    assert pinned_keys(place) == {KIND: ED25519}


@pytest.mark.parametrize(
    "broken",
    [
        "192.0.2.7 ssh-ed25519 not-base64-at-all!",
        "192.0.2.7 ssh-ed25519 AAAA",
        "192.0.2.7 ssh-ed25519",
        "192.0.2.7",
        "192.0.2.7 ssh-rsa " + OTHER,
        "192.0.2.7 ssh-unheard-of AAAAC3NzaC1lZDI1NTE5",
        "@cert-authority *.example ssh-ed25519 " + OTHER,
        "@revoked 192.0.2.7 ssh-ed25519 " + OTHER,
        "|1|broken|hash ssh-ed25519 " + OTHER,
        "\udcff binary",
    ],
)
def test_a_line_that_cannot_be_read_neither_counts_nor_hides_others(
    broken: str, tmp_path: Path
) -> None:
    place = target(f"192.0.2.7 {KIND} {ED25519}", tmp_path=tmp_path)
    file = place.known_hosts[1]
    file.write_bytes(broken.encode("utf-8", "surrogateescape") + b"\n" + file.read_bytes())
    assert pinned_keys(place) == {KIND: ED25519}


def test_a_revoked_key_counts_as_unknown(tmp_path: Path) -> None:
    lines = (f"192.0.2.7 {KIND} {ED25519}", f"@revoked * {KIND} {ED25519}")
    assert pinned_keys(target(*lines, tmp_path=tmp_path)) == {}


def test_the_connection_knows_the_pinned_keys_and_no_others(tmp_path: Path) -> None:
    lines = (f"{hashed('[192.0.2.7]:2222')} {KIND} {ED25519}", f"192.0.2.8 {KIND} {OTHER}")
    options = "hostname 192.0.2.7\nport 2222"
    place = target(*lines, tmp_path=tmp_path, options=options)
    known = new_client(place, None).client.get_host_keys()
    assert list(known) == ["[192.0.2.7]:2222"]
    assert known["[192.0.2.7]:2222"][KIND].get_base64() == ED25519


def test_the_fingerprint_is_the_one_ssh_keygen_prints() -> None:
    assert fingerprint(ED25519) == "SHA256:w53EcMMsdG13DScwN/pPAtzW61W6uiRqnPfMvFhjIcY"


class TestTrust:
    """Pinning, with a host that offers one fixed key."""

    host = Host("gpu01", "192.0.2.7")

    @pytest.fixture(autouse=True)
    def offer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RIGUP_HOME", str(tmp_path))
        monkeypatch.setattr(trust, "scan_host_key", lambda host: (KIND, ED25519))
        resolved = resolve(self.host, read_options=lambda _: {})
        monkeypatch.setattr(
            trust,
            "resolve",
            lambda host: replace(resolved, known_hosts=(tmp_path / "known_hosts",)),
        )

    def test_a_new_key_is_offered_pinned_and_then_known(self, tmp_path: Path) -> None:
        offer = trust.offered_key(self.host)
        assert not offer.is_pinned
        assert offer.fingerprint == fingerprint(ED25519)
        trust.pin(offer.known_hosts_name, [offer.key])
        assert trust.offered_key(self.host).is_pinned
        assert (tmp_path / "known_hosts").stat().st_mode & 0o777 == 0o600

    def test_a_changed_key_is_refused_with_both_fingerprints(self) -> None:
        trust.pin("192.0.2.7", [(KIND, OTHER)])
        with pytest.raises(HostKeyChanged) as raised:
            trust.offered_key(self.host)
        assert fingerprint(OTHER) in raised.value.message
        assert fingerprint(ED25519) in raised.value.message
        assert "--replace" in str(raised.value.remedy)

    def test_replacing_takes_exactly_the_named_hosts_line(self, tmp_path: Path) -> None:
        trust.pin("192.0.2.7", [(KIND, OTHER)])
        trust.pin("192.0.2.70", [(KIND, OTHER)])
        assert not trust.offered_key(self.host, replace=True).is_pinned
        trust.pin("192.0.2.7", [(KIND, ED25519)])
        assert (tmp_path / "known_hosts").read_text().splitlines() == [
            f"192.0.2.70 {KIND} {OTHER}",
            f"192.0.2.7 {KIND} {ED25519}",
        ]

    def test_pins_at_the_same_time_all_stay(self, tmp_path: Path) -> None:
        names = [f"host{number}" for number in range(40)]
        threads = [
            threading.Thread(target=trust.pin, args=(name, [(KIND, ED25519)])) for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = (tmp_path / "known_hosts").read_text().splitlines()
        assert sorted(line.split()[0] for line in lines) == sorted(names)

    def test_one_refusal_leaves_the_other_hosts_their_turn(self) -> None:
        hosts = [Host(name, name) for name in ("a", "b", "c")]
        asked: list[str] = []

        def review(offer: trust.Offer) -> None:
            asked.append(offer.host.name)
            if offer.host.name == "b":
                raise BlockedError("not confirmed")

        results = trust.settle(hosts, review)
        assert asked == ["a", "b", "c"]
        assert [error is None for _, _, error in results] == [True, False, True]
        assert results[1][2].host == "b"

    def test_a_jump_host_comes_first_and_only_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gateway = Host("gateway", "gateway", from_ssh_config=True)
        hosts = [Host("a", "a"), Host("b", "b")]
        pinned: set[str] = set()
        monkeypatch.setattr(trust, "hops", lambda host: [gateway, host])

        def offered(host: Host, replace: bool, asked_for: str) -> trust.Offer:
            assert host == gateway or "gateway" in pinned, "it cannot be reached yet"
            return trust.Offer(host, (KIND, ED25519), host.name, host.name in pinned)

        monkeypatch.setattr(trust, "offered_key", offered)
        asked: list[str] = []

        def review(offer: trust.Offer) -> None:
            asked.append(offer.host.name)
            pinned.add(offer.host.name)

        assert [error for _, _, error in trust.settle(hosts, review)] == [None, None]
        assert asked == ["gateway", "a", "b"]

    def test_a_review_that_pins_nothing_comes_to_an_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gateway = Host("gateway", "gateway", from_ssh_config=True)
        monkeypatch.setattr(trust, "hops", lambda host: [gateway, host])
        [(_, _, error)] = trust.settle([self.host], lambda offer: None)
        assert isinstance(error, BlockedError)

    def test_unpinning_forgets_only_that_host(self, tmp_path: Path) -> None:
        trust.unpin("192.0.2.7")
        assert not (tmp_path / "known_hosts").exists()
        trust.pin("a", [(KIND, OTHER)])
        trust.pin("b", [(KIND, OTHER)])
        trust.unpin("a")
        assert (tmp_path / "known_hosts").read_text() == f"b {KIND} {OTHER}\n"


def test_a_key_of_a_pinned_type_is_asked_for_first() -> None:
    known = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
    assert pinned_first(known, []) == known
    assert pinned_first(known, ["ssh-rsa", "ssh-dss"])[:2] == ("rsa-sha2-512", "rsa-sha2-256")
    both = pinned_first(known, ["ssh-rsa", "ecdsa-sha2-nistp256"])
    assert both == ("rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256", "ssh-ed25519")


def test_only_modern_algorithms_are_offered() -> None:
    class Wire:
        def settimeout(self, seconds: float) -> None: ...

    security = new_link(Wire(), []).get_security_options()  # type: ignore[arg-type]
    offered = (*security.ciphers, *security.digests)
    assert security.ciphers[0] == "aes128-gcm@openssh.com"
    assert {"aes256-ctr", "hmac-sha2-256"} <= set(offered)
    assert not [name for name in offered if "cbc" in name or "sha1" in name or "md5" in name]


def test_an_unknown_key_stops_with_fingerprint_and_remedy() -> None:
    class Key:
        def get_base64(self) -> str:
            return ED25519

        def get_name(self) -> str:
            return KIND

    policy = RefuseUnknown("gateway", "gpu01")
    with pytest.raises(UnknownHostKey) as raised:
        policy.missing_host_key(None, "192.0.2.7", Key())
    assert raised.value.fingerprint == fingerprint(ED25519)
    assert raised.value.remedy is not None
    assert "invoke trust --host gpu01" in raised.value.remedy
