from __future__ import annotations

import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from inventory import Host
from provisioner.containers.ssh_fragment import (
    container_options,
    ensure_include,
    forget_hosts,
    fragment_file,
    has_block,
    host_options,
    remove_block,
    render_block,
    write_blocks,
)
from provisioner.errors import RigupError, UsageError

LAB = Host(
    name="lab01", address="192.0.2.7", user="ana", port=2200, identity_file=Path("/keys/my key")
)


@pytest.fixture(autouse=True)
def rigup_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home dir"
    monkeypatch.setenv("RIGUP_HOME", str(home))
    return home


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "dot-ssh" / "config"


def publish() -> None:
    container = container_options(LAB, "lab01-torch", "ana", 22200)
    write_blocks({"lab01": host_options(LAB), "lab01-torch": container})


def ssh_reads(config: Path, alias: str) -> dict[str, str]:
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), alias], capture_output=True, text=True, check=True
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the ssh client")
def test_ssh_itself_reads_what_was_meant(config: Path, rigup_home: Path) -> None:
    publish()
    ensure_include(config)
    host, container = ssh_reads(config, "lab01"), ssh_reads(config, "lab01-torch")
    assert (host["hostname"], host["port"], host["user"]) == ("192.0.2.7", "2200", "ana")
    assert host["identityfile"] == "/keys/my key"
    assert host["stricthostkeychecking"] == "true"
    assert (container["hostname"], container["port"]) == ("127.0.0.1", "22200")
    assert container["proxyjump"] == "lab01"
    assert container["hostkeyalias"] == "lab01-torch"
    assert container["userknownhostsfile"] == str(rigup_home / "known_hosts")


def test_writing_a_block_again_replaces_it() -> None:
    publish()
    before = fragment_file().read_text()
    publish()
    assert fragment_file().read_text() == before
    write_blocks({"lab01-torch": container_options(LAB, "lab01-torch", "ana", 22300)})
    after = fragment_file().read_text()
    assert "Port 22300" in after
    assert "Port 22200" not in after
    assert after.count("Host lab01-torch") == 1


def test_removing_a_block_leaves_the_others() -> None:
    publish()
    write_blocks({"lab01-torch2": container_options(LAB, "lab01-torch2", "ana", 22201)})
    remove_block("lab01-torch")
    text = fragment_file().read_text()
    assert "Host lab01\n" in text
    assert "Host lab01-torch2\n" in text
    assert "Host lab01-torch\n" not in text
    remove_block("absent")
    assert fragment_file().read_text() == text


def test_the_fragment_is_private() -> None:
    publish()
    assert stat.S_IMODE(fragment_file().stat().st_mode) == 0o600


def test_include_comes_first_and_once(config: Path) -> None:
    config.parent.mkdir(mode=0o700)
    original = "# mine\nHost *\n  User me \u00fc\n"
    config.write_bytes(original.encode() + b"# \xff\n")
    config.chmod(0o644)
    assert ensure_include(config)
    assert not ensure_include(config)
    raw = config.read_bytes()
    first, rest = raw.split(b"\n", 1)
    assert first == f'Include "{fragment_file()}"'.encode()
    assert rest == original.encode() + b"# \xff\n"
    assert stat.S_IMODE(config.stat().st_mode) == 0o644


def test_include_inside_a_host_block_does_not_count(config: Path) -> None:
    config.parent.mkdir()
    config.write_text(f'Host other\nInclude "{fragment_file()}"\n')
    assert ensure_include(config)
    assert config.read_text().startswith("Include ")


def test_a_missing_config_is_made_private(config: Path) -> None:
    assert ensure_include(config)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700


def test_a_linked_config_stays_a_link(config: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles"
    real.write_text("Host x\n")
    config.parent.mkdir()
    config.symlink_to(real)
    ensure_include(config)
    assert config.is_symlink()
    assert real.read_text().startswith("Include ")


@pytest.mark.parametrize(
    "host",
    [
        Host(name="a", address="x\n  ProxyCommand touch /tmp/owned"),
        Host(name="a", address="x", user="me\nProxyCommand id"),
        Host(name="a", address="x", user="me you"),
        Host(name="a", address="x", user="-oProxyCommand=id"),
        Host(name="a", address="-oProxyCommand=id"),
        Host(name="a", address='x"y'),
        Host(name="a", address="x", jump="j\nProxyCommand id"),
        Host(name="a", address="x", jump="j ProxyCommand"),
        Host(name="a", address="x", identity_file=Path('/k"\nProxyCommand id')),
        Host(name="a", address="x", identity_file=Path("/k/${HOME}")),
    ],
)
def test_a_hostile_value_writes_no_directive(host: Host) -> None:
    with pytest.raises(RigupError):
        write_blocks({host.name: host_options(host)})
    assert not fragment_file().exists()


@pytest.mark.parametrize("alias", ["*", "a b", "a\nHost *", "!x", "a,b", "-x", "", "a?"])
def test_a_hostile_alias_is_refused(alias: str) -> None:
    with pytest.raises(UsageError):
        render_block(alias, {"HostName": "x"})


def test_an_ipv6_zone_is_not_a_token() -> None:
    assert host_options(Host(name="a", address="fe80::1%eth0"))["HostName"] == "fe80::1%%eth0"


def test_a_jump_host_of_the_inventory_goes_by_its_own_alias() -> None:
    bastion = Host(name="bastion", address="192.0.2.1", user="jump")
    assert host_options(replace(LAB, jump="bastion", via=bastion))["ProxyJump"] == "bastion"
    elsewhere = replace(bastion, name="gate")
    assert host_options(replace(LAB, jump="192.0.2.1", via=elsewhere))["ProxyJump"] == "gate"
    assert host_options(replace(LAB, jump="me@192.0.2.1:2222"))["ProxyJump"] == "me@192.0.2.1:2222"


def test_hosts_that_are_gone_take_their_containers_aliases_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path))
    write_blocks(
        {alias: {"HostName": "127.0.0.1"} for alias in ("lab01", "lab01-torch", "lab011", "gpu01")}
    )
    forget_hosts(["lab01"])
    left = [name for name in ("lab01", "lab01-torch", "lab011", "gpu01") if has_block(name)]
    assert left == ["lab011", "gpu01"]
