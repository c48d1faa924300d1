"""The engine against a scripted Docker: what it asks for, and what it makes of the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from provisioner.command import Command, Result
from provisioner.containers.docker_cli import inspect
from provisioner.containers.engine import (
    PORTS,
    ContainerInfo,
    HostPlace,
    choose_port,
    down,
    host_keys,
    list_containers,
    look_at_host,
    running_images,
    up,
)
from provisioner.containers.spec import SPEC_LABEL, ContainerSpec, Login, differences
from provisioner.errors import BlockedError, CommandFailed, ConnectionLost, RigupError, UsageError
from provisioner.transport.fake import FakeTransport
from provisioner.transport.local import LocalTransport

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMiDX33+6S8D3u968mV57YcPDx6uW/F0aWUbAt3uGGXU"
SPEC = ContainerSpec(
    name="torch",
    image="rigup/pytorch:abc",
    login=Login("ana", 1000, 1000),
    ssh_port=22200,
    keys_dir=PurePosixPath("/home/ana/.rigup/containers/torch"),
)


class Docker:
    """A host's containers. ``refuses``: what `docker run` and `create` say instead; ``answers``:
    whether the sshd of a container that is started answers; ``breaks_at``: after so many commands
    that change something, the client is gone."""

    def __init__(self, *, refuses: str = "", answers: bool = True) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.keys: bytes | None = None
        self.refuses, self.answers = refuses, answers
        self.breaks_at: int | None = None
        self.top = "PID COMMAND\n"
        self.done: list[str] = []

    @property
    def entry(self) -> dict[str, Any] | None:
        return self.entries.get(SPEC.docker_name)

    def add(self, spec: ContainerSpec, status: str = "running", name: str = "") -> None:
        self.entries[name or spec.docker_name] = {
            "Name": f"/{name or spec.docker_name}",
            "State": {"Status": status},
            "Config": {"Labels": {SPEC_LABEL: spec.to_label()}},
        }

    def __call__(self, command: Command) -> Result:
        words = command.words
        if words[:2] == ("cat", "--"):
            return Result(command, 0 if self.keys is not None else 1, self.keys or b"")
        if words[0] == "python3":
            return Result(command, 0 if self.answers else 1)
        if words[0] == "mkdir":
            return Result(command, 0)
        return self._docker(command, words[1])

    def _docker(self, command: Command, verb: str) -> Result:
        words = command.words
        if verb == "container":
            found = [self.entries[name] for name in words[3:] if name in self.entries]
            if "--format" in words:
                return Result(command, 0, found[0]["State"]["Status"].encode() if found else b"")
            if not found:
                return Result(command, 1, b"[]", b"Error: No such container: x")
            return Result(command, 0, json.dumps(found).encode())
        if verb == "top":
            return Result(command, 0, self.top.encode())
        if verb == "exec":
            return Result(command, 0, KEY.encode() + b" rigup\n")
        if verb == "ps":
            return Result(command, 0, "\n".join(self._listed(words)).encode())
        if self.breaks_at is not None and len(self.done) >= self.breaks_at:
            raise ConnectionLost("killed")
        return self._change(command, verb)

    def _listed(self, words: Sequence[str]) -> list[str]:
        pattern = next((word[5:] for word in words if word.startswith("name=")), "")
        return [name for name in self.entries if re.search(pattern.removeprefix("^/?"), name)]

    def _change(self, command: Command, verb: str) -> Result:
        words, last = command.words, command.words[-1]
        if verb in ("run", "create"):
            self.done.append(verb)
            if self.refuses:
                return Result(command, 125, b"", self.refuses.encode())
            name = words[words.index("--name") + 1]
            label = next(word for word in words if word.startswith(f"{SPEC_LABEL}="))
            spec = replace(SPEC, gpus=json.loads(label.partition("=")[2])["gpus"])
            self.add(spec, "running" if verb == "run" else "created", name)
        elif verb == "rm":
            if self.entries.pop(last, None) is None:
                return Result(command, 1, b"", b"Error: No such container: x")
            self.done.append(verb)
        elif verb == "rename":
            self.done.append(verb)
            self.entries[last] = {**self.entries.pop(words[-2]), "Name": f"/{last}"}
        else:
            self.done.append(verb)
            status = {"start": "running", "unpause": "running", "stop": "exited"}.get(verb)
            if status:
                self.entries[last]["State"]["Status"] = status
        return Result(command, 0, b"last words" if verb == "logs" else b"")


def bring_up(docker: Docker, spec: ContainerSpec = SPEC, **options: Any) -> ContainerInfo:
    ticks = iter(range(0, 10_000, 10))
    transport = FakeTransport(docker)
    info = up(
        transport, spec, [KEY], sleep=lambda _: None, clock=lambda: float(next(ticks)), **options
    )
    docker.keys = next(iter(transport.files.values()), docker.keys)
    return info


def test_a_first_up_starts_it_and_reports_its_host_key() -> None:
    docker = Docker()
    info = bring_up(docker)
    assert docker.done == ["run"]
    assert info.changed
    assert info.running
    assert info.host_keys == (("ssh-ed25519", KEY.split()[1]),)


def test_host_keys_are_read_with_programs_that_the_user_cannot_replace() -> None:
    host = FakeTransport(Docker())
    host_keys(host, "rigup-ssh-1000-torch")
    [inside] = [command.words[-3:] for command in host.commands]
    assert inside == ("/bin/sh", "-c", "/bin/cat /var/lib/rigup/ssh/*.pub")


def test_a_second_up_changes_nothing() -> None:
    docker = Docker()
    bring_up(docker)
    docker.done.clear()
    assert not bring_up(docker).changed
    assert docker.done == []


@pytest.mark.parametrize(("status", "verb"), [("exited", "start"), ("paused", "unpause")])
def test_a_stopped_container_is_started_again(status: str, verb: str) -> None:
    docker = Docker()
    docker.add(SPEC, status)
    assert bring_up(docker).changed
    assert docker.done == [verb]


def test_a_different_container_is_replaced_only_when_asked() -> None:
    docker = Docker()
    docker.add(replace(SPEC, gpus="all"))
    with pytest.raises(UsageError, match="gpus: all -> none") as caught:
        bring_up(docker)
    assert "--recreate" in (caught.value.remedy or "")
    assert docker.done == []
    bring_up(docker, recreate=True)
    assert docker.done == ["create", "stop", "rename", "rename", "start", "rename", "rm"]
    assert set(docker.entries) == {SPEC.docker_name}
    assert not differences(SPEC, docker.entries[SPEC.docker_name]["Config"]["Labels"][SPEC_LABEL])


OLD = replace(SPEC, gpus="all")


def gpus_of(docker: Docker) -> tuple[str, str]:
    """What the container under the name is, and whether it runs."""
    entry = docker.entries[SPEC.docker_name]
    return json.loads(entry["Config"]["Labels"][SPEC_LABEL])["gpus"], entry["State"]["Status"]


@pytest.mark.parametrize("status", ["running", "exited"])
def test_a_new_one_that_cannot_be_made_leaves_the_old_one(status: str) -> None:
    docker = Docker(refuses="no such image")
    docker.add(OLD, status)
    with pytest.raises(CommandFailed):
        bring_up(docker, recreate=True)
    assert gpus_of(docker) == ("all", status)
    assert set(docker.entries) == {SPEC.docker_name}


@pytest.mark.parametrize("status", ["running", "exited"])
def test_a_new_one_that_does_not_answer_gives_way_to_the_old_one(status: str) -> None:
    docker = Docker(answers=False)
    docker.add(OLD, status)
    with pytest.raises(RigupError, match="there before is there again"):
        bring_up(docker, recreate=True)
    assert gpus_of(docker) == ("all", status)
    assert set(docker.entries) == {SPEC.docker_name}


@pytest.mark.parametrize("commands", range(8))
def test_a_client_that_is_killed_while_it_replaces_loses_no_container(commands: int) -> None:
    docker = Docker()
    docker.add(OLD)
    docker.breaks_at = commands
    with suppress(ConnectionLost):
        bring_up(docker, recreate=True)
    assert any(name.startswith(SPEC.docker_name) for name in docker.entries)
    docker.breaks_at = None
    bring_up(docker, recreate=True)
    assert gpus_of(docker) == ("none", "running")
    assert set(docker.entries) == {SPEC.docker_name}


def test_a_new_one_that_never_answered_is_not_taken_for_good_by_the_next_run() -> None:
    docker = Docker(answers=False)
    docker.add(OLD, "running", f"{SPEC.docker_name}.old")
    docker.add(SPEC)
    docker.add(OLD, "running", f"{SPEC.docker_name}.old")
    with pytest.raises(RigupError):
        bring_up(docker)
    assert gpus_of(docker) == ("all", "running")
    assert set(docker.entries) == {SPEC.docker_name}


def test_a_new_one_that_has_answered_stays_also_when_it_was_stopped_since() -> None:
    docker = Docker()
    docker.add(SPEC, "exited")
    docker.add(OLD, "exited", f"{SPEC.docker_name}.gone")
    bring_up(docker)
    assert gpus_of(docker) == ("none", "running")
    assert set(docker.entries) == {SPEC.docker_name}


BUSY = "PID COMMAND\n4810 sshd: ana@pts/0\n4820 python train.py\n"


def test_a_container_in_which_somebody_works_is_replaced_only_with_a_yes() -> None:
    docker = Docker()
    docker.add(OLD)
    docker.top = BUSY
    with pytest.raises(BlockedError, match=r"1 open SSH session.*python train\.py") as caught:
        bring_up(docker, recreate=True)
    assert "--yes" in (caught.value.remedy or "")
    assert docker.done == []
    bring_up(docker, recreate=True, end_sessions=True)
    assert gpus_of(docker) == ("none", "running")


def test_a_paused_container_that_cannot_be_replaced_runs_again() -> None:
    docker = Docker(answers=False)
    docker.add(OLD, "paused")
    with pytest.raises(RigupError, match="there before is there again"):
        bring_up(docker, recreate=True)
    assert gpus_of(docker) == ("all", "running")


@pytest.mark.parametrize("commands", range(1, 8))
def test_down_after_a_killed_replacement_leaves_nothing(commands: int) -> None:
    docker = Docker()
    docker.add(OLD)
    docker.breaks_at = commands
    with suppress(ConnectionLost):
        bring_up(docker, recreate=True)
    docker.breaks_at = None
    assert down(FakeTransport(docker), "torch", 1000)
    assert docker.entries == {}


@pytest.mark.parametrize(
    "line", ["", "ssh-ed25519", "@cert-authority *", "ssh-ed25519 AAAA", "ssh-ed25519 \x1b]52;c"]
)
def test_what_is_no_host_key_is_not_pinned(line: str) -> None:
    assert host_keys(FakeTransport(lambda c: Result(c, 0, line.encode())), "x") == ()


def test_new_keys_need_no_restart() -> None:
    docker = Docker()
    docker.add(SPEC)
    docker.keys = b"ssh-ed25519 old\n"
    assert bring_up(docker).changed
    assert docker.done == []
    assert docker.keys == f"{KEY}\n".encode()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "toolkit"),
        ("permission denied while trying to connect to the Docker daemon socket", "docker group"),
        ("Bind for 127.0.0.1:22200 failed: port is already allocated", "ssh_port"),
        ('invalid mount config for type "bind": bind source path does not exist: /x', "folder"),
        ("sh: docker: not found", "not installed"),
    ],
)
def test_a_refusal_is_cleaned_up_and_explained(said: str, remedy: str) -> None:
    docker = Docker(refuses=said)
    with pytest.raises(CommandFailed, match="docker run") as caught:
        bring_up(docker)
    assert remedy in (caught.value.remedy or "")
    assert docker.done == ["run"]


def test_a_container_that_never_answers_shows_its_log() -> None:
    with pytest.raises(RigupError, match="does not answer") as caught:
        bring_up(Docker(answers=False))
    assert "last words" in caught.value.message


def test_down_says_whether_there_was_one() -> None:
    docker = Docker()
    docker.add(SPEC)
    assert down(FakeTransport(docker), "torch", 1000)
    assert not down(FakeTransport(docker), "torch", 1000)
    assert docker.done == ["rm"]
    down(FakeTransport(docker), "torch", 1000, forget=True)
    assert docker.done == ["rm", "volume"]


def test_list_tells_what_docker_knows() -> None:
    docker = Docker()
    assert list_containers(FakeTransport(docker)) == ()
    docker.add(replace(SPEC, gpus="0,1"), "exited")
    [info] = list_containers(FakeTransport(docker), 1000)
    assert (info.name, info.gpus, info.ssh_port, info.running) == ("torch", "0,1", 22200, False)


UNREADABLE = [
    {},
    {SPEC_LABEL: ""},
    {SPEC_LABEL: "[]"},
    {SPEC_LABEL: "{}"},
    {SPEC_LABEL: '{"login": "ana"}'},
    {SPEC_LABEL: SPEC.to_label().replace('"torch"', "7")},
]


@pytest.mark.parametrize("labels", UNREADABLE)
def test_a_container_with_rigups_label_that_rigup_did_not_make_is_left_out(
    labels: dict[str, str],
) -> None:
    docker = Docker()
    docker.add(SPEC)
    assert docker.entry is not None
    docker.entry["Config"]["Labels"] = labels
    assert list_containers(FakeTransport(docker)) == ()


NONSENSE = [
    b"",
    b"{}",
    b"[7]",
    b"[" * 10_000,
    b'[{"Name": "/x"}]',
    b'[{"Name": 7, "State": {"Status": "running"}, "Config": {}}]',
    b'[{"Name": "/x", "State": [], "Config": {}}]',
    b'[{"Name": "/x", "State": {"Status": "running"}, "Config": {"Labels": ["a"]}}]',
    b'[{"Name": "/x", "State": {"Status": "\\u001b[2J"}, "Config": {}}]',
]


@pytest.mark.parametrize("said", NONSENSE, ids=lambda said: repr(said[:70]))
def test_a_docker_that_describes_nonsense_is_an_error_of_that_host(said: bytes) -> None:
    transport = FakeTransport(lambda c: Result(c, 0, b"id1" if c.words[1] == "ps" else said))
    for ask in (lambda: list_containers(transport), lambda: inspect(transport, "x")):
        with pytest.raises(RigupError, match="makes no sense") as raised:
            ask()
        assert raised.value.host == transport.host_name


@pytest.mark.parametrize(
    "label",
    [
        SPEC.to_label().replace('"torch"', '"../x"'),
        SPEC.to_label().replace("22200", "-1"),
        SPEC.to_label().replace("22200", "99999999"),
        SPEC.to_label().replace("22200", "true"),
        "[" * 10_000,
    ],
    ids=lambda label: label[-80:],
)
def test_a_label_that_rigup_would_not_write_is_left_out(label: str) -> None:
    docker = Docker()
    docker.add(SPEC)
    assert docker.entry is not None
    docker.entry["Config"]["Labels"] = {SPEC_LABEL: label}
    assert list_containers(FakeTransport(docker)) == ()


@pytest.mark.parametrize("label", ["", "[]", "7", '"x"', "[" * 10_000], ids=lambda label: label[:9])
def test_a_label_of_nonsense_differs(label: str) -> None:
    assert differences(SPEC, label) == ["it was made by another version of rigup"]


def test_a_host_cannot_answer_about_another_container_than_the_one_asked_for() -> None:
    """Its host key is pinned under the name in the answer, and SSH then leads there."""
    docker = Docker()
    lie = replace(SPEC, name="2")

    def answer(command: Command) -> Result:
        if command.words[1:2] == ("container",) and docker.done:
            docker.entries[SPEC.docker_name]["Config"]["Labels"] = {SPEC_LABEL: lie.to_label()}
        return docker(command)

    with pytest.raises(RigupError, match="another container"):
        up(FakeTransport(answer), SPEC, [KEY], sleep=lambda _: None)
    docker.entries[SPEC.docker_name]["Name"] = "/another"
    with pytest.raises(RigupError, match="makes no sense"):
        inspect(FakeTransport(docker), SPEC.docker_name)


def test_a_container_that_goes_while_the_list_is_made_is_left_out() -> None:
    def answer(command: Command) -> Result:
        if command.words[1] == "ps":
            return Result(command, 0, b"id1\nid2\n")
        entries = [{**docker.entry}] if docker.entry else []
        return Result(command, 1, json.dumps(entries).encode(), b"Error: No such container: id2")

    docker = Docker()
    docker.add(SPEC)
    assert [info.name for info in list_containers(FakeTransport(answer))] == ["torch"]


def test_running_images_are_the_users_own_in_one_round_trip() -> None:
    lines = [replace(SPEC, name="b", image="second").to_label(), "", "{}", SPEC.to_label()]
    host = FakeTransport(lambda c: Result(c, 0, "\n".join(lines).encode()))
    assert running_images(host) == ("second", SPEC.image)
    [command] = host.commands
    script = command.words[-1]
    assert "status=running" in script
    assert '"label=rigup.uid=$(id -u)"' in script


def test_a_refusing_docker_is_no_empty_list() -> None:
    said = b"permission denied while trying to connect to the Docker daemon socket"
    with pytest.raises(CommandFailed) as caught:
        running_images(FakeTransport(lambda c: Result(c, 1, b"", said)))
    assert "docker group" in (caught.value.remedy or "")


FAKE_DOCKER = """#!/bin/sh
case "$*" in
*--all*) exit 9 ;;
*'status=running'*'label=rigup.container'*"label=rigup.uid=$(id -u)"*'{{.Label "rigup.spec"}}'*) ;;
*) exit 8 ;;
esac
cat "$0.answer"
"""


def test_the_question_for_running_images_as_a_shell_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "docker"
    program.write_text(FAKE_DOCKER)
    program.chmod(0o755)
    (tmp_path / "docker.answer").write_text(SPEC.to_label() + "\n")
    assert running_images(LocalTransport()) == (SPEC.image,)


HOST_ANSWER = b"uid=1000\ngid=1001\nname=ana\nhome=/home/ana\nCapBnd=%s\nport=56B8\nport=0016\n"


@pytest.mark.parametrize(
    ("bounding", "large"), [(b"000001ffffffffff", True), (b"000001fffeffffff", False)]
)
def test_the_host_tells_its_user_ports_and_limits(bounding: bytes, large: bool) -> None:
    place = look_at_host(FakeTransport(lambda c: Result(c, 0, HOST_ANSWER % bounding)))
    assert place == HostPlace(
        Login("ana", 1000, 1001), PurePosixPath("/home/ana"), frozenset({22200, 22}), large
    )


def test_a_host_that_answers_nonsense_is_an_error() -> None:
    with pytest.raises(RigupError, match="unexpected answer"):
        look_at_host(FakeTransport(lambda c: Result(c, 0, b"Welcome!\n")))


def test_ports_are_kept_and_free_ones_chosen() -> None:
    place = HostPlace(SPEC.login, PurePosixPath("/home/ana"), frozenset({22200}), True)
    known = ContainerInfo("torch", "x", "exited", 22201, "ana", "none", "i")
    assert choose_port("torch", place, [known]) == 22201
    assert choose_port("other", place, [known]) == 22202
    full = replace(place, listening=frozenset(PORTS))
    with pytest.raises(RigupError, match="is taken"):
        choose_port("other", full, [])
