"""Debian and Ubuntu: repositories, mirrors, pinned keys."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from situations import facts_of

from inventory import Host
from inventory.model import Mirrors, Repository
from provisioner import data
from provisioner.actions import WriteFile
from provisioner.command import Command, Result
from provisioner.errors import BlockedError, CommandFailed, StepFailed
from provisioner.facts import OS, SOURCES, Facts
from provisioner.facts.os import OsFacts
from provisioner.facts.sources import SourceFacts
from provisioner.openpgp import read_key
from provisioner.platforms import ALL_PLATFORMS, VendorSource, platform_of
from provisioner.platforms.apt import FETCH_KEY, AptMark
from provisioner.platforms.debian import Debian
from provisioner.platforms.keys import FetchKey
from provisioner.platforms.ubuntu import Ubuntu
from provisioner.transport.fake import FakeTransport

KEYS = Path(__file__).parents[1] / "cases" / "keys"
RSA = "EDA30D1EDFFCAB85F72A1547275A59131C745E80"
ED25519 = "34D8157F40C80A34B16954AE48D7779D3E887A47"
HOST = Host("gpu01", "gpu01")
SUPPORTED = [
    (platform.os_id, version) for platform in (Debian(), Ubuntu()) for version in platform.codenames
]
VENDORS = ("nvidia", "container_toolkit", "docker")


def facts(system: str = "debian12") -> Facts:
    return facts_of({"from": "fresh", "system": system}, HOST)


def source(name: str, system: str = "debian12", host: Host = HOST) -> VendorSource:
    return platform_of(facts(system)[OS]).vendor_source(name, facts(system)[OS], host)


def written(of: VendorSource, system: str = "debian12") -> str:
    [file] = [
        action for action in Debian().source_actions(of, facts(system)) if type(action) is WriteFile
    ]
    return file.content


def test_a_flat_repository_as_deb822() -> None:
    assert written(source("nvidia")) == (
        "# written by rigup; changes are overwritten\n"
        "Types: deb\n"
        "URIs: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/\n"
        "Suites: /\n"
        "Signed-By: /etc/apt/keyrings/rigup-nvidia-a4b469963bf863cc.asc\n"
    )


def test_a_repository_with_suite_and_components() -> None:
    text = written(source("docker", "ubuntu2404"), "ubuntu2404")
    assert "URIs: https://download.docker.com/linux/ubuntu\n" in text
    assert "Suites: noble\nComponents: stable\n" in text


@pytest.mark.parametrize(("system", "arch"), [("debian12", "amd64"), ("arm", "arm64")])
def test_architectures(system: str, arch: str) -> None:
    assert source("container_toolkit", system).uri.endswith(f"/deb/{arch}/")


def test_debian_13_has_its_own_nvidia_key() -> None:
    new, old = source("nvidia", "debian13"), source("nvidia", "debian12")
    assert new.key_fingerprint == "02182E60104FCDC26EAE1B8597A5D4CB8793F200"
    assert new.key_url.endswith("/debian13/x86_64/8793F200.pub")
    assert old.key_fingerprint == "EB693B3035CD5710E231E123A4B469963BF863CC"
    assert source("docker", "debian13").key_fingerprint == source("docker").key_fingerprint


def test_a_mirror_serves_the_files_and_the_pinned_key_stays() -> None:
    mirror = Repository(uri="https://mirror.example/nv/", key_url="https://mirror.example/key")
    host = replace(HOST, mirrors=Mirrors(nvidia=mirror))
    found, official = source("nvidia", host=host), source("nvidia")
    assert (found.uri, found.key_url) == (mirror.uri, mirror.key_url)
    assert found.key_fingerprint == official.key_fingerprint
    assert source("docker", host=host) == source("docker")


def test_a_mirror_that_signs_with_its_own_key_gets_its_own_key_file() -> None:
    host = replace(HOST, mirrors=Mirrors(nvidia=Repository(key_fingerprint=ED25519)))
    found = source("nvidia", host=host)
    assert (found.uri, found.key_fingerprint) == (source("nvidia").uri, ED25519)
    assert "rigup-nvidia-48d7779d3e887a47.asc" in written(found)
    assert "48d7779d3e887a47" not in written(source("nvidia"))


def test_what_is_in_place_needs_no_action_and_a_changed_file_is_written_again() -> None:
    wanted = source("nvidia")
    key = "/etc/apt/keyrings/rigup-nvidia-a4b469963bf863cc.asc"
    file = "/etc/apt/sources.list.d/rigup-nvidia.sources"

    def actions(files: dict[str, str], keys: dict[str, str]) -> list[str]:
        seen = Facts({**dict(facts().items()), SOURCES.name: SourceFacts(files, keys)})
        return [type(action).__name__ for action in Debian().source_actions(wanted, seen)]

    assert actions({}, {}) == ["FetchKey", "WriteFile"]
    pinned = {key: wanted.key_fingerprint}
    assert actions({file: written(wanted)}, pinned) == []
    assert actions({file: written(wanted) + "Enabled: no\n"}, pinned) == ["WriteFile"]
    assert actions({file: written(wanted)}, {key: ""}) == ["FetchKey"], "it holds something else"
    assert actions({file: written(wanted)}, {key: ED25519}) == ["FetchKey"]
    assert actions({file: written(wanted)}, {}) == ["FetchKey"]


def fetched(key: bytes, *, wanted: str) -> FakeTransport:
    """A host on which the key file has been fetched and, if it passed, stored."""

    def answer(command: Command) -> Result:
        return Result(command, 0, key if FETCH_KEY in command.words else b"")

    host = FakeTransport(answer)
    [action, _] = Debian().source_actions(
        replace(source("nvidia"), key_fingerprint=wanted, key_url="https://m.example/k"), facts()
    )
    action.apply(host)
    return host


@pytest.mark.parametrize("wanted", [RSA, RSA.lower()])
def test_the_pinned_key_is_stored_as_root(wanted: str) -> None:
    host = fetched((KEYS / "rsa2048.asc").read_bytes(), wanted=wanted)
    fetch, store = host.commands
    assert fetch.sudo
    assert store.sudo
    assert fetch.words[-1] == "https://m.example/k"
    assert store.stdin is not None
    assert read_key(store.stdin).fingerprint == RSA
    assert "/etc/apt/keyrings/rigup-nvidia-275a59131c745e80.asc" in store.words
    assert "0644" in store.words, "apt reads keys as a user of its own"


def test_only_what_was_checked_is_stored() -> None:
    pinned = (KEYS / "rsa2048.asc").read_bytes()
    around = b"the key of our mirror\n\n" + pinned + b"\nthank you\n"
    assert fetched(around, wanted=RSA).commands[-1].stdin == pinned


def test_a_second_block_is_refused_even_if_only_other_readers_see_it() -> None:
    pinned = (KEYS / "rsa2048.asc").read_bytes()
    hidden = (KEYS / "ed25519.asc").read_bytes().replace(b"BLOCK-----\n", b"BLOCK----- \n", 1)
    with pytest.raises(StepFailed, match="more than one armored block"):
        fetched(pinned + hidden, wanted=RSA)


def test_another_key_is_refused_and_nothing_is_stored() -> None:
    with pytest.raises(StepFailed, match=re.escape(f"holds another key ({ED25519})")) as raised:
        fetched((KEYS / "ed25519.asc").read_bytes(), wanted=RSA)
    assert raised.value.host == "fake01"
    assert "who changed the key" in str(raised.value.remedy)


def test_a_file_of_two_keys_is_refused_and_nothing_is_stored() -> None:
    with pytest.raises(StepFailed, match="a second key") as raised:
        fetched((KEYS / "two-keys.asc").read_bytes(), wanted=RSA)
    assert "one public key and nothing else" in str(raised.value.remedy)


def test_a_web_page_instead_of_a_key_is_refused() -> None:
    with pytest.raises(StepFailed, match="is no signing key") as raised:
        fetched(b"<html>Please log in to the guest network</html>", wanted=RSA)
    assert "key_url" in str(raised.value.remedy)


def test_nothing_is_stored_before_the_key_was_checked() -> None:
    host = FakeTransport(lambda command: Result(command, 0, b"no key"))
    action = FetchKey(source("nvidia"), PurePosixPath("/etc/k"), FETCH_KEY)
    with pytest.raises(StepFailed):
        action.apply(host)
    assert len(host.commands) == 1


def test_a_download_that_fails_shows_itself() -> None:
    host = FakeTransport(lambda command: Result(command, 100, b"", b"404 Not Found"))
    [action, _] = Debian().source_actions(source("nvidia"), facts())
    with pytest.raises(CommandFailed, match="404 Not Found"):
        action.apply(host)


def test_the_key_is_downloaded_by_apts_own_helper_into_a_bounded_answer(tmp_path: Path) -> None:
    """The script really run, with a stand-in for apt-helper: the URL is never a shell word."""
    helper = tmp_path / "apt-helper"
    helper.write_text('#!/bin/sh\n[ "$1" = download-file ] || exit 9\nprintf %s "$2" > "$3"\n')
    helper.chmod(0o755)
    script = FETCH_KEY.replace("/usr/lib/apt/apt-helper", str(helper))
    url = "https://m.example/$(touch pwned) 'k'"
    done = subprocess.run(
        ["sh", "-c", Command.sh(script, url).render()], capture_output=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, url.encode())
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("system", ["debian12", "debian13", "ubuntu2404", "arm"])
def test_supported_systems(system: str) -> None:
    assert facts(system)[OS].id == platform_of(facts(system)[OS]).name


def test_every_supported_release_has_complete_sources() -> None:
    for system, release in SUPPORTED:
        for architecture in ("x86_64", "aarch64"):
            os = replace(
                facts()[OS], id=system, version=release, codename="code", architecture=architecture
            )
            for name in VENDORS:
                found = platform_of(os).vendor_source(name, os, HOST)
                assert "{" not in found.uri + found.key_url + found.suite
                assert found.uri.startswith("https://")
                assert re.fullmatch(r"[0-9A-F]{40}", found.key_fingerprint)


@pytest.mark.parametrize("system", ["debian11", "riscv"])
def test_other_systems_are_refused_with_what_would_do(system: str) -> None:
    os: OsFacts = facts(system)[OS]
    with pytest.raises(BlockedError, match="is not supported") as raised:
        platform_of(os)
    assert os.pretty_name in raised.value.message
    for name, release in SUPPORTED:
        assert f"{name} {release}" in str(raised.value.remedy)


def test_every_platform_is_registered_once() -> None:
    names = [platform.name for platform in ALL_PLATFORMS]
    assert len(names) == len(set(names))
    assert set(data.load("repositories")) >= set(VENDORS)


LOCKED = b"dpkg: error: dpkg frontend lock was locked by another process with pid 260"


def test_a_hold_waits_for_another_dpkg() -> None:
    waited: list[float] = []
    answers = iter([Result(Command.of("x"), 100, stderr=LOCKED)] * 2 + [Result(Command.of("x"), 0)])
    transport = FakeTransport(lambda command: next(answers))
    AptMark(Command.of("apt-mark", "hold", "a"), sleep=waited.append).apply(transport)
    assert len(waited) == 2


@pytest.mark.parametrize(("error", "asked"), [(LOCKED, 100), (b"E: Unable to locate", 1)])
def test_a_hold_does_not_wait_for_ever_nor_for_anything_else(error: bytes, asked: int) -> None:
    transport = FakeTransport(lambda command: Result(command, 100, stderr=error))
    with pytest.raises(CommandFailed):
        AptMark(Command.of("apt-mark", "hold", "a"), sleep=lambda _: None).apply(transport)
    assert len(transport.commands) == asked
