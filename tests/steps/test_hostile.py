"""A hostile inventory or host cannot inject a command: whatever its strings are, they reach a
program as arguments, and the files that rigup writes hold no more than they should."""

from __future__ import annotations

import configparser
import dataclasses
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from situations import CASES, KINDS, facts_of, host_of

from inventory import Host, InventoryError, load_inventory
from provisioner.actions import Action, WriteFile
from provisioner.command import Command, Result
from provisioner.docker_apply import ConfigureDocker
from provisioner.errors import RigupError
from provisioner.facts import Facts
from provisioner.plan import check
from provisioner.steps import ALL_STEPS, Change
from provisioner.transport.fake import FakeTransport

MARK = "h0st1le"
HOSTILE = [
    *(f"{MARK}'; touch /tmp/{MARK}; '", f'{MARK}"; touch x; "', f"$({MARK})", f"`{MARK}`"),
    *(f"{MARK}\ntouch x", f"-o{MARK}", f"--{MARK}=1", f"{MARK} && reboot", f"{MARK}|sh", "${IFS}"),
    *(f"\x1b]0;{MARK}\x07", f"{MARK}\r\nTrusted: yes", f"%n{MARK}", f"\\{MARK}\\", f"{MARK}*?[a]"),
    *(f"../../{MARK}", f"{MARK}\u2028x", f"{MARK}\u202ex", "", "~", f"{{{MARK}}}", f"!{MARK}"),
]
strings = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
).map(lambda text: MARK + text)

SITUATIONS: list[dict[str, Any]] = [
    {"from": "fresh"},
    {"from": "fresh", "system": "debian13"},
    {"from": "fresh", "system": "ubuntu2404"},
    {"from": "fresh", "system": "rocky9"},
    {"from": "no gpu"},
    {"from": "converged"},
    {"from": "converged", "facts": {"toolkit": {"version": "1.17.0"}, "login": {"groups": []}}},
]


@st.composite
def hostile_facts(draw: st.DrawFn) -> Facts:
    """A situation in which one to three strings of the host's answers are the host's choice."""
    host = Host("gpu01", "gpu01.example")
    values = dict(facts_of(draw(st.sampled_from(SITUATIONS)), host).items())
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(KINDS)))
        places = [field for field in dataclasses.fields(values[name]) if _takes_text(field)]
        if places:
            field = draw(st.sampled_from(places))
            text = draw(strings)
            value = (text,) if "tuple" in str(field.type) else text
            values[name] = dataclasses.replace(values[name], **{field.name: value})
    return Facts(values)


def _takes_text(field: dataclasses.Field[Any]) -> bool:
    return str(field.type) in ("str", "str | None", "tuple[str, ...]")


def changes(facts: Facts, host: Host) -> Iterator[Change]:
    for step in ALL_STEPS:
        outcome = check(step, facts, host)
        if isinstance(outcome, Change):
            yield outcome


def actions(facts: Facts, host: Host) -> list[Action]:
    return [action for change in changes(facts, host) for action in change.actions]


def commands_of(found: list[Action]) -> list[Command]:
    """What they would run on a host that says yes to everything."""
    transport = FakeTransport(lambda command: Result(command, 0))
    for action in found:
        with suppress(RigupError):
            action.apply(transport)
    return transport.commands


def scripts(command: Command) -> list[str]:
    """The words of a command that a shell or an interpreter takes for a program."""
    pairs = zip(command.words, command.words[1:], strict=False)
    return [word for before, word in pairs if before in ("-c", "-e", "--command")]


def as_a_shell_reads(lines: list[str]) -> list[bytes]:
    """The words of all these command lines, read by a real ``sh``."""
    program = "".join(f"printf '%s\\0' {line}\n" for line in lines)
    done = subprocess.run(["sh"], input=program.encode(), capture_output=True, timeout=30)
    assert done.stderr == b""
    return done.stdout.split(b"\0")[:-1]


@settings(max_examples=250, deadline=None)
@given(facts=hostile_facts())
def test_what_a_host_says_is_an_argument_and_never_a_command(facts: Facts) -> None:
    commands = commands_of(actions(facts, Host("gpu01", "gpu01.example")))
    for command in commands:
        assert not any(MARK in script for script in scripts(command)), command
        assert MARK not in command.words[0]
    words = [word.encode("utf-8", "surrogateescape") for one in commands for word in one.words]
    assert as_a_shell_reads([command.render() for command in commands]) == words


@settings(max_examples=150, deadline=None)
@given(facts=hostile_facts())
def test_every_step_answers_or_says_what_it_cannot_tell(facts: Facts) -> None:
    """A plan never ends in an error that rigup does not know."""
    for step in ALL_STEPS:
        outcome = check(step, facts, Host("gpu01", "gpu01.example"))
        assert outcome.reason


# The inventory

SETTINGS = {
    "user": "{}",
    "identity_file": "{}",
    "jump": "{}",
    "python": "/usr/bin/{}",
    "state_dir": "/data/{}",
    "driver_branch": "{}",
    "docker_data_root": "/data/{}",
    "workspace": "/data/{}",
    "address": "{}",
    "mirrors.nvidia.uri": "https://mirror.example/{}",
    "mirrors.nvidia.key_url": "https://mirror.example/{}",
    "mirrors.nvidia.key_fingerprint": "{}",
    "mirrors.docker.uri": "https://{}.example/",
    "mirrors.container_toolkit.uri": "file:///srv/{}",
    "mirrors.container_registry": "registry.example/{}",
    "mirrors.python_index": "http://mirror.example/{}",
    "mirrors.model_hub": "https://hub.example/{}",
    "mirrors.http_proxy": "http://proxy.example:3128/{}",
    "container.image": "{}",
    "container.shm_size": "{}",
}
URL_PARTS = [
    "%20",
    "%n",
    "a;b",
    "$(id)",
    "${HOME}",
    "!x",
    "a&b",
    "*",
    "#x",
    "(x)",
    "=",
    ",",
    "~",
    "[x]",
]


@st.composite
def inventories(draw: st.DrawFn) -> dict[str, Any]:
    """One or two settings at a time: one that is refused would hide what others do."""
    host: dict[str, Any] = {"docker_source": "vendor", "driver_source": "vendor"}
    addresses = [key for key, text in SETTINGS.items() if "://" in text]
    keys = st.sampled_from(addresses) | st.sampled_from(sorted(SETTINGS))
    for key in draw(st.lists(keys, min_size=1, max_size=2)):
        text = draw(st.sampled_from(URL_PARTS) | strings)
        *path, last = key.split(".")
        section = host
        for name in path:
            section = section.setdefault(name, {})
        section[last] = SETTINGS[key].replace("{}", text)
    return {"hosts": {"gpu01": host}}


def loaded(data: dict[str, Any]) -> Host | None:
    """As a user's file; None where it is refused."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "hosts.yaml"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        try:
            return load_inventory(path, ssh_config=Path(directory) / "none").hosts["gpu01"]
        except InventoryError:
            return None


@settings(max_examples=400, deadline=None)
@given(data=inventories(), situation=st.sampled_from(SITUATIONS[:5]))
def test_an_inventory_is_refused_or_stays_in_its_place(
    data: dict[str, Any], situation: dict[str, Any]
) -> None:
    host = loaded(data)
    if host is None:
        return
    found = actions(facts_of(situation, host), host)
    for command in commands_of(found):
        assert not any(MARK in script for script in scripts(command)), command
    for action in found:
        assert "\n" not in str(getattr(action, "path", ""))
        if isinstance(action, WriteFile):
            unbroken(action)
        if isinstance(action, ConfigureDocker):
            assert isinstance(json.loads(action.merge.text), dict)


def unbroken(file: WriteFile) -> None:
    """The file says what rigup means to say and nothing else."""
    reader = next((read for end, read in READERS.items() if str(file.path).endswith(end)), None)
    assert reader is not None, f"no reader for {file.path}"
    reader(file.content)


def _deb822(text: str) -> None:
    keys = [line.partition(":")[0] for line in text.splitlines() if not line.startswith("#")]
    assert keys in (
        ["Types", "URIs", "Suites", "Signed-By"],
        ["Types", "URIs", "Suites", "Components", "Signed-By"],
    ), text
    assert not re.search(r"^URIs: \S+[ \t]+\S", text, re.MULTILINE)


def _repo(text: str) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    assert [name for name in parser.sections() if not name.startswith("rigup-")] == []
    assert len(parser.sections()) == 1
    known = {"name", "baseurl", "enabled", "gpgkey", "gpgcheck", "repo_gpgcheck", "includepkgs"}
    known |= {"proxy", "autorefresh", "type", "pkg_gpgcheck", "excludepkgs", "priority"}
    assert set(parser[parser.sections()[0]]) <= known


def _lines(pattern: str) -> Callable[[str], None]:
    def read(text: str) -> None:
        lines = [line for line in text.split("\n") if line and not line.startswith("#")]
        assert lines
        assert all(re.fullmatch(pattern, line) for line in lines), text

    return read


def _pip(text: str) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    assert parser.sections() == ["global"]
    assert set(parser["global"]) <= {"index-url", "trusted-host", "cert"}


def _profile(text: str) -> None:
    """A real shell sets these variables to values without a trace of their own and runs nothing."""
    names = re.findall(r"^export (\w+)=", text, re.MULTILINE)
    script = f"PATH=/nonexistent\n{text}\nprintf '%s\\n' " + " ".join(
        f'"${name}"' for name in names
    )
    done = subprocess.run(["/bin/sh", "-u"], input=script.encode(), capture_output=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, b""), text
    assert len(done.stdout.splitlines()) == len(names)


READERS: dict[str, Callable[[str], None]] = {
    ".sources": _deb822,
    ".repo": _repo,
    "90rigup-proxy": _lines(r'Acquire::https?::Proxy "[^"\\]*";'),
    "rigup-proxy.conf": _lines(r'\[Service\]|Environment="[A-Z_]+=(?:[^"\\%]|%%)*"'),
    "/etc/pip.conf": _pip,
    "rigup-network.sh": _profile,
    "tmpfiles.d/rigup.conf": _lines(r"#[^\n]*|d /run/lock/rigup 1777 root root -"),
}


@pytest.mark.parametrize(
    ("end", "broken"),
    [
        (".sources", "Types: deb\nURIs: https://a/ https://b/\nSuites: /\nSigned-By: k\n"),
        (".sources", "Types: deb\nURIs: https://a/\nTrusted: yes\nSuites: /\nSigned-By: k\n"),
        (".repo", "[rigup-a]\nbaseurl=x\n[other]\nbaseurl=y\n"),
        ("90rigup-proxy", 'Acquire::http::Proxy "a"; DPkg::Pre-Invoke {"id";};'),
        ("rigup-proxy.conf", '[Service]\nEnvironment="A=b"\nExecStartPre=/bin/id\n'),
        ("/etc/pip.conf", "[global]\nindex-url = a\n[install]\nuser = 1\n"),
        ("rigup-network.sh", "export A=$(id)\n"),
    ],
)
def test_the_readers_see_a_file_that_was_broken_out_of(end: str, broken: str) -> None:
    with pytest.raises((AssertionError, configparser.Error)):
        READERS[end](broken)


def test_the_cases_of_all_steps_write_files_that_their_programs_read() -> None:
    written = 0
    for path in sorted(CASES.glob("network.yaml")):
        for case in yaml.safe_load(path.read_text()):
            host = host_of(case)
            for action in actions(facts_of(case, host), host):
                if isinstance(action, WriteFile) and not str(action.path).endswith(".crt"):
                    unbroken(action)
                    written += 1
    assert written > 10
