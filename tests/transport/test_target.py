"""Where a host is: the inventory first, then what ``ssh -G`` says, then OpenSSH's defaults."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import Host
from provisioner.errors import ConnectError, UsageError
from provisioner.transport import target as module
from provisioner.transport.target import Target, parse_jump, parse_options, resolve, ssh_options

SSH_G = """\
host gpu01
user deploy
hostname 192.0.2.7
port 2200
identitiesonly yes
proxyjump ops@bastion.example:2222
identityfile {key}
identityfile /nowhere/id_rsa
hostkeyalias gpu-one
globalknownhostsfile /etc/ssh/known_a /etc/ssh/known_b
userknownhostsfile ~/.ssh/one /srv/two
sendenv LANG
sendenv LC_*
"""


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id_test"
    path.write_text("not really a key")
    return path


def resolved(host: Host, text: str) -> Target:
    return resolve(host, read_options=lambda _: parse_options(text))


def test_options_keep_order_and_repetition() -> None:
    options = parse_options("SendEnv LANG\nsendenv LC_*\nuser  two words\n\nnovalue\nhost a b\n")
    assert options["sendenv"] == ["LANG", "LC_*"]
    assert options["host"] == ["a b"]
    assert "novalue" not in options


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_parses_to_options(text: str) -> None:
    for keyword, values in parse_options(text).items():
        assert keyword == keyword.lower()
        assert values


def test_the_ssh_configuration_fills_what_the_inventory_leaves_open(key: Path) -> None:
    target = resolved(Host("gpu01", "gpu01"), SSH_G.format(key=key))
    assert (target.address, target.port, target.user) == ("192.0.2.7", 2200, "deploy")
    assert target.identities == (key,)
    assert target.identities_only
    assert target.jump == "ops@bastion.example:2222"
    assert target.host_name == "gpu01"


def test_the_inventory_wins_over_the_ssh_configuration(key: Path) -> None:
    host = Host(
        "gpu01",
        "gpu01",
        user="ml",
        port=22,
        identity_file=Path("/keys/own"),
        jump="other.example",
        connect_timeout_s=3.0,
        command_timeout_s=60.0,
    )
    target = resolved(host, SSH_G.format(key=key).replace("identitiesonly yes", ""))
    assert (target.user, target.port, target.jump) == ("ml", 22, "other.example")
    assert target.identities == (Path("/keys/own"),)
    assert target.identities_only, "a named key is the only one that is tried"
    assert (target.connect_timeout_s, target.command_timeout_s) == (3.0, 60.0)


def test_known_hosts_lists_are_rigups_first_then_both_of_ssh(
    key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path / "home"))
    known = resolved(Host("gpu01", "gpu01"), SSH_G.format(key=key)).known_hosts
    assert known == (
        tmp_path / "home" / "known_hosts",
        Path("~/.ssh/one").expanduser(),
        Path("/srv/two"),
        Path("/etc/ssh/known_a"),
        Path("/etc/ssh/known_b"),
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("hostname 192.0.2.7\nport 22", "192.0.2.7"),
        ("hostname 192.0.2.7\nport 2200", "[192.0.2.7]:2200"),
        ("hostname 192.0.2.7\nport 2200\nhostkeyalias gpu-one", "gpu-one"),
        ("hostname 192.0.2.7\nhostkeyalias none", "192.0.2.7"),
        ("hostname 2001:db8::7\nport 22", "2001:db8::7"),
    ],
)
def test_the_name_a_host_key_is_filed_under(options: str, name: str) -> None:
    assert resolved(Host("gpu01", "gpu01"), options).known_hosts_name == name


@pytest.mark.parametrize(
    ("options", "jump", "proxy_command"),
    [
        ("proxyjump none\nproxycommand none", None, None),
        ("proxycommand nc -X 5 %h %p", None, "nc -X 5 gpu01 22"),
        ("proxyjump a,b\nproxycommand nc", "a,b", None),
    ],
)
def test_proxies(options: str, jump: str | None, proxy_command: str | None) -> None:
    target = resolved(Host("gpu01", "gpu01"), options)
    assert (target.jump, target.proxy_command) == (jump, proxy_command)


def test_no_jump_means_none_whatever_the_ssh_configuration_says() -> None:
    for options in ("proxyjump bastion", "proxycommand nc %h %p"):
        target = resolved(Host("gpu01", "gpu01", jump="none"), options)
        assert (target.jump, target.proxy_command) == (None, None)


def test_tokens_are_filled_in(tmp_path: Path) -> None:
    key = tmp_path / "key_192.0.2.7_2200_ml_gpu01"
    key.write_text("a key")
    options = (
        "hostname 192.0.2.7\nport 2200\nuser ml\n"
        f"identityfile {tmp_path}/key_%h_%p_%r_%n\n"
        "proxycommand reach %d %u 100%% %Z\n"
    )
    target = resolved(Host("box", "gpu01"), options)
    assert target.identities == (key,)
    assert target.proxy_command == f"reach {Path.home()} {getpass.getuser()} 100% %Z"


def test_a_key_of_which_only_the_public_half_is_here_is_kept(tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("public")
    target = resolved(Host("box", "box"), f"identityfile {tmp_path}/id")
    assert target.identities == (tmp_path / "id",)


def test_known_hosts_files_with_spaces_in_their_names(tmp_path: Path) -> None:
    spaced = tmp_path / "my keys" / "known hosts"
    spaced.parent.mkdir()
    spaced.write_text("")
    plain = tmp_path / "plain"
    plain.write_text("")
    options = f"userknownhostsfile /missing {spaced} {plain} /also/missing"
    known = resolved(Host("box", "box"), options).known_hosts[1:]
    assert known == (Path("/missing"), spaced, plain, Path("/also/missing"))


def test_without_an_ssh_program_opensshs_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    target = resolve(Host("gpu01", "192.0.2.9"))
    assert (target.address, target.port, target.user) == ("192.0.2.9", 22, getpass.getuser())
    assert Path("~/.ssh/known_hosts").expanduser() in target.known_hosts
    assert not target.identities_only


def test_ssh_is_asked_with_the_inventorys_user_and_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\necho "asked $*"\necho "hostname from-ssh"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    options = ssh_options(Host("gpu01", "-oProxyCommand=evil", user="ml", port=2200))
    assert options["asked"] == ["-G -l ml -p 2200 -- -oProxyCommand=evil"]
    assert options["hostname"] == ["from-ssh"]


def test_a_broken_ssh_configuration_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\necho 'config line 3: Bad configuration option' >&2\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UsageError, match="line 3: Bad configuration option") as raised:
        ssh_options(Host("gpu01", "a b"))
    assert raised.value.remedy == "ssh -G 'a b'"
    assert raised.value.host == "gpu01"


def test_an_ssh_that_hangs_on_its_configuration_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hang(*words: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("ssh", 10)

    monkeypatch.setattr(module.subprocess, "run", hang)
    with pytest.raises(UsageError, match="10 s"):
        ssh_options(Host("gpu01", "gpu01"))


@pytest.mark.parametrize(
    ("jump", "parts"),
    [
        ("bastion", (None, "bastion", None)),
        ("bastion:2222", (None, "bastion", 2222)),
        ("ops@bastion", ("ops", "bastion", None)),
        ("ops@bastion:22", ("ops", "bastion", 22)),
        ("a@b@bastion", ("a@b", "bastion", None)),
        ("[2001:db8::1]", (None, "2001:db8::1", None)),
        ("ops@[2001:db8::1]:2222", ("ops", "2001:db8::1", 2222)),
        ("ssh://ops@bastion:2222", ("ops", "bastion", 2222)),
        ("ssh://bastion", (None, "bastion", None)),
    ],
)
def test_forms_of_a_jump_host(jump: str, parts: tuple[str | None, str, int | None]) -> None:
    assert parse_jump(jump) == parts


@pytest.mark.parametrize(
    "jump", ["", "@", "ops@", ":22", "bastion:ssh", "bastion:-1", "2001:db8::1", "[]:22"]
)
def test_a_jump_host_that_cannot_be_read(jump: str) -> None:
    with pytest.raises(ConnectError, match="cannot read the jump host") as raised:
        parse_jump(jump)
    assert "[user@]host[:port]" in str(raised.value.remedy)
