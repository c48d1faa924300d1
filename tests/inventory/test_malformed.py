"""Every way to write an inventory wrongly: the message names line, key and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from inventory import InventoryError, load_inventory


@dataclass(frozen=True)
class Case:
    """Text of a file, the line that must be named, and what the whole message must hold."""

    id: str
    text: str
    line: int
    holds: tuple[str, ...]


def host(settings: str) -> str:
    """A file whose line 3 is one setting of host gpu01."""
    return f"hosts:\n  gpu01:\n    {settings}\n"


CASES = [
    # structure
    Case("empty", "", 1, ("is empty", "hosts.example.yaml")),
    Case("only comments", "# nothing\n", 1, ("is empty",)),
    Case("only null", "---\n", 2, ("is empty",)),
    Case("a list", "- gpu01\n", 1, ("expected a mapping", "got a list")),
    Case("plain text", "gpu01\n", 1, ("expected a mapping", "got text 'gpu01'")),
    Case("top-level typo", "host:\n  gpu01:\n", 1, ("unknown key 'host'", "did you mean hosts")),
    Case("two documents", "hosts: {a: }\n---\nhosts: {b: }\n", 3, ("second document", "---")),
    Case("duplicate host", "hosts:\n  a:\n  b:\n  a:\n", 4, ("'a' comes twice", "line 2")),
    Case("duplicate key", host("port: 1\n    port: 2"), 4, ("'port' comes twice", "line 3")),
    Case("duplicate section", "hosts: {}\nhosts: {}\n", 2, ("'hosts' comes twice",)),
    Case("duplicate listed host", "hosts:\n- a\n- a\n", 3, ("'a' comes twice",)),
    Case("hosts is text", "hosts: gpu01\n", 1, ("hosts: expected a mapping", "text 'gpu01'")),
    Case("host is a list", "hosts:\n  a: [1]\n", 2, ("hosts.a: expected a mapping",)),
    Case(
        "host is a number", "hosts:\n  a: 22\n", 2, ("hosts.a: expected a mapping", "number '22'")
    ),
    Case("defaults is a list", "defaults: []\n", 1, ("defaults: expected a mapping",)),
    Case("groups is a list", "groups: [a]\n", 1, ("groups: expected a mapping",)),
    Case("null name", "hosts:\n  ~:\n", 2, ("expected a name",)),
    Case("null listed", "hosts: [null]\n", 1, ("expected a host name", "got nothing")),
    Case("mapping as key", "hosts:\n  ? {a: b}\n  : x\n", 2, ("expected a name as key",)),
    # YAML itself
    Case("tab", "hosts:\n\tgpu01:\n", 2, ("tab", "spaces")),
    Case("tab after spaces", "hosts:\n  gpu01:\n  \taddress: x\n", 3, ("tab",)),
    Case("open bracket", "hosts: [a\n", 2, ("not valid YAML",)),
    Case("open quote", "hosts:\n  a:\n    user: 'x\n", 4, ("not valid YAML", "quote")),
    Case(
        "no space after colon", "hosts:\n  a:\n    user:ml\n    port: 1\n", 4, ("not valid YAML",)
    ),
    Case("bad indentation", "hosts:\n  a:\n    user: x\n   port: 1\n", 4, ("not valid YAML",)),
    Case("unknown alias", "hosts: *nowhere\n", 1, ("not valid YAML", "nowhere")),
    Case("control character", "hosts:\n  a:\n    user: a\x07b\n", 3, ("U+0007",)),
    Case("python tag", host("user: !!python/name:os.system x"), 3, ("tagged", "python/name")),
    Case("mapping posing as text", host("user: !!str {a: b}"), 3, ("expected a login name",)),
    Case("merge key", "defaults: &d {port: 1}\nhosts:\n  a:\n    <<: *d\n", 4, ("<<", "defaults")),
    Case("endless alias", "hosts: &h\n  a: *h\n", 1, ("too many values",)),
    Case("deep nesting", "hosts: " + "[" * 5000, 1, ("nested too deeply",)),
    # unknown keys
    Case("host typo", host("adress: x"), 3, ("hosts.gpu01: unknown key 'adress'", "address")),
    Case("host key far off", host("colour: red"), 3, ("unknown key 'colour'", "known keys here")),
    Case("another tool's key", host("ansible_host: x"), 3, ("called address",)),
    Case("defaults typo", "defaults:\n  usr: ml\n", 2, ("defaults: unknown key", "user")),
    Case("group typo", "groups:\n  g:\n    host: [a]\n", 3, ("groups.g: unknown", "hosts")),
    Case("address in defaults", "defaults: {address: x}\n", 1, ("belongs to one host",)),
    Case("address in group", "groups:\n  g:\n    address: x\n", 3, ("belongs to one host",)),
    Case("mirrors typo", host("mirrors: {nvida: {}}"), 3, ("mirrors: unknown", "nvidia")),
    Case("repository typo", host("mirrors: {docker: {url: x}}"), 3, ("mirrors.docker", "uri")),
    Case("container typo", host("container: {shm: 1g}"), 3, ("container: unknown", "shm_size")),
    # values
    Case("port true", host("port: yes"), 3, ("from 1 to 65535", "true or false 'yes'")),
    Case("port text", host("port: '22'"), 3, ("from 1 to 65535", "remove the quotes")),
    Case("port word", host("port: ssh"), 3, ("from 1 to 65535", "text 'ssh'")),
    Case("port 0", host("port: 0"), 3, ("from 1 to 65535",)),
    Case("port too big", host("port: 65536"), 3, ("from 1 to 65535",)),
    Case("port negative", host("port: -22"), 3, ("from 1 to 65535",)),
    Case("port float", host("port: 22.0"), 3, ("got a number '22.0'",)),
    Case("port octal", host("port: 022"), 3, ("from 1 to 65535",)),
    Case("port list", host("port: [22]"), 3, ("got a list",)),
    Case("port empty", host("port:"), 3, ("got nothing",)),
    Case("address empty", host("address:"), 3, ("got nothing", "remove the line")),
    Case("address list", host("address: [a]"), 3, ("a host name or an IP address",)),
    Case("address option", host("address: -oProxyCommand=x"), 3, ("a host name or",)),
    Case("address shell", host("address: 'a;reboot'"), 3, ("a host name or",)),
    Case("address substitution", host("address: '$(id)'"), 3, ("a host name or",)),
    Case("address space", host("address: a b"), 3, ("a host name or",)),
    Case("address newline", host('address: "a\\nb"'), 3, ("a host name or",)),
    Case("address final newline", host('address: "a\\n"'), 3, ("a host name or",)),
    Case("address with user", host("address: ml@a"), 3, ("`user`",)),
    Case("address with port", host("address: a:22"), 3, ("`port`",)),
    Case("address bracketed", host("address: '[::1]'"), 3, ("without brackets",)),
    Case("user option", host("user: -l"), 3, ("a login name",)),
    Case("user shell", host("user: a`id`"), 3, ("a login name",)),
    Case("user number", host("user: 1000"), 3, ("a login name", "whole number '1000'")),
    Case("host name option", "hosts:\n  -oX:\n", 2, ("expected a host name", "letter or digit")),
    Case("host name slash", "hosts:\n  a/b:\n", 2, ("expected a host name",)),
    Case("host name dots", "hosts:\n  ..:\n", 2, ("expected a host name",)),
    Case("host name comma", "hosts:\n  'a,b':\n", 2, ("expected a host name",)),
    Case("host name long", f"hosts:\n  {'a' * 64}:\n", 2, ("up to 63",)),
    Case("group name option", "groups:\n  --x: {}\n", 2, ("expected a group name",)),
    Case("jump shell", host("jump: 'a|b'"), 3, ("[user@]host[:port]",)),
    Case("jump option", host("jump: -J"), 3, ("[user@]host[:port]",)),
    Case("jump second hop", host("jump: 'a,'"), 3, ("[user@]host[:port]",)),
    Case("jump port", host("jump: a:70000"), 3, ("[user@]host[:port]",)),
    Case("identity list", host("identity_file: []"), 3, ("a path on this machine",)),
    Case("identity nobody", host("identity_file: ~no-such-user/k"), 3, ("home directory",)),
    Case("labels list", host("labels: [a]"), 3, ("labels: expected a mapping",)),
    Case("label nested", host("labels: {a: {b: c}}"), 3, ("labels.a", "a short text")),
    Case("label null", host("labels: {a: }"), 3, ("labels.a", "got nothing")),
    Case("label of two lines", host('labels: {a: "b\\nc"}'), 3, ("labels.a", "a short text")),
    Case("label key", host("labels: {'a b': c}"), 3, ("expected a label name",)),
    Case("python arguments", host("python: python3 -m x"), 3, ("a program name",)),
    Case("python option", host("python: -c"), 3, ("a program name",)),
    Case("state_dir up", host("state_dir: ../x"), 3, ("a directory on the host",)),
    Case("state_dir shell", host("state_dir: $HOME/x"), 3, ("a directory on the host",)),
    Case("source typo", host("driver_source: vender"), 3, ("distro or vendor", "mean vendor")),
    Case("source bool", host("docker_source: on"), 3, ("distro or vendor",)),
    Case("workspace relative", host("workspace: work"), 3, ("an absolute directory",)),
    Case("workspace home", host("workspace: ~/work"), 3, ("an absolute directory",)),
    Case("workspace root", host("workspace: //./"), 3, ("an absolute directory",)),
    Case("workspace up", host("workspace: /data/../etc"), 3, ("an absolute directory",)),
    Case("workspace space", host("workspace: /data/my work"), 3, ("an absolute directory",)),
    Case("workspace option", host("workspace: -rf"), 3, ("an absolute directory",)),
    Case("data root number", host("docker_data_root: 7"), 3, ("whole number '7'",)),
    Case("data root shell", host("docker_data_root: /d$(id)"), 3, ("an absolute directory",)),
    Case("data directories text", host("data_directories: /data"), 3, ("expected a list",)),
    Case(
        "data directories relative",
        host("data_directories: [/a, b]"),
        3,
        ("data_directories[1]", "an absolute directory"),
    ),
    Case("branch version", host("driver_branch: 580.95.05"), 3, ("three digits",)),
    Case("branch word", host("driver_branch: latest"), 3, ("three digits",)),
    Case("uri scheme", host("mirrors: {nvidia: {uri: 'ftp://x/y'}}"), 3, ("https://",)),
    Case("uri no host", host("mirrors: {nvidia: {uri: 'https:///y'}}"), 3, ("https://",)),
    Case("uri quote", host("""mirrors: {nvidia: {uri: "https://a/'x"}}"""), 3, ("https://",)),
    Case("uri port", host("mirrors: {nvidia: {uri: 'https://a:99999/'}}"), 3, ("https://",)),
    Case("uri port 0", host("mirrors: {nvidia: {uri: 'https://a:0/'}}"), 3, ("https://",)),
    Case("uri bare", host("mirrors: {model_hub: mirror.example}"), 3, ("https://",)),
    Case("repository text", host("mirrors: {docker: 'https://a'}"), 3, ("expected a mapping",)),
    Case("proxy scheme", host("mirrors: {http_proxy: 'socks5://p:1'}"), 3, ("http://",)),
    Case("proxy bare", host("mirrors: {http_proxy: 'proxy.example:3128'}"), 3, ("http://",)),
    Case("proxy quote", host("""mirrors: {http_proxy: 'http://p/";x'}"""), 3, ("http://",)),
    Case("proxy backslash", host("mirrors: {http_proxy: 'http://p/\\\\'}"), 3, ("http://",)),
    Case("proxy two lines", host('mirrors: {http_proxy: "http://p\\nx"}'), 3, ("http://",)),
    Case("index space", host("mirrors: {python_index: 'https://a/ b'}"), 3, ("https://",)),
    Case("hub file", host("mirrors: {model_hub: 'file:///srv'}"), 3, ("https://",)),
    Case("ca number", host("mirrors: {ca_certificates: [1]}"), 3, ("a path on this machine",)),
    Case("registry scheme", host("mirrors: {container_registry: 'https://a'}"), 3, ("scheme",)),
    Case("ca not list", host("mirrors: {ca_certificates: a.pem}"), 3, ("expected a list",)),
    Case("fingerprint short", host("mirrors: {docker: {key_fingerprint: ABCD}}"), 3, ("40 hex",)),
    Case("image space", host("container: {image: 'a b'}"), 3, ("a container image",)),
    Case("image option", host("container: {image: --privileged}"), 3, ("a container image",)),
    Case("image upper case", host("container: {image: Team/Image}"), 3, ("a container image",)),
    Case("mounts text", host("container: {mounts: '/a:/b'}"), 3, ("expected a list",)),
    Case("mount one path", host("container: {mounts: [/a]}"), 3, ("mounts[0]", "/on/host")),
    Case("mount mode", host("container: {mounts: ['/a:/b:rx']}"), 3, (":ro",)),
    Case("shm_size unit", host("container: {shm_size: 16 gigs}"), 3, ("512m or 16g",)),
    Case("timeout unit", host("connect_timeout: 5 days"), 3, ("30s or 10m",)),
    Case("timeout zero", host("connect_timeout: 0"), 3, ("30s or 10m",)),
    Case("timeout negative", host("command_timeout: -5"), 3, ("30s or 10m",)),
    Case("timeout infinite", host("command_timeout: .inf"), 3, ("30s or 10m",)),
    Case("timeout huge", host("command_timeout: 9999h"), 3, ("at most 7 days",)),
    Case("timeout sexagesimal", host("command_timeout: 1:30"), 3, ("30s or 10m",)),
    Case("timeout bool", host("command_timeout: true"), 3, ("30s or 10m",)),
    # groups
    Case(
        "unlisted host in group",
        "groups:\n  lab:\n    hosts:\n      - gpu1\nhosts:\n  gpu01:\n",
        4,
        ("'gpu1' is not under `hosts`", "did you mean gpu01"),
    ),
    Case(
        "far-off host in group",
        "groups: {lab: {hosts: [zebra]}}\nhosts: {gpu01: }\n",
        1,
        ("add zebra: under `hosts`",),
    ),
    Case(
        "group of text", "groups: {g: {hosts: gpu01}}\nhosts: [gpu01]\n", 1, ("got text 'gpu01'",)
    ),
    Case("twice in group", "groups: {g: {hosts: [a, a]}}\nhosts: [a]\n", 1, ("'a' comes twice",)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_message_names_file_line_and_expectation(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(case.text)

    with pytest.raises(InventoryError) as caught:
        load_inventory(path, ssh_config=tmp_path / "none")

    message = str(caught.value)
    assert message.startswith(f"{path}:{case.line}: ")
    for fragment in case.holds:
        assert fragment in message


def test_case_names_are_unique() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text("defaults: {mirrors: {http_proxy: 'http://me:s3cret@proxy.example'}}\n")

    with pytest.raises(InventoryError) as caught:
        load_inventory(path, ssh_config=tmp_path / "none")

    assert "password" in str(caught.value)
    assert "admit the hosts there" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_bomb_of_aliases_is_refused_quickly(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        again = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"{'abcdefghijklmn'[level]}: &a{level} [{again}]")
    path.write_text("\n".join(lines))

    with pytest.raises(InventoryError, match="too many values"):
        load_inventory(path, ssh_config=tmp_path / "none")
