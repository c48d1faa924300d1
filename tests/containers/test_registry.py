"""What a host's Docker says about an image in a registry. The manifests are what Docker's client
28.2 printed of a small registry."""

from __future__ import annotations

import ast
import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from provisioner.command import Command, Result
from provisioner.containers import ask_registry, receive_image
from provisioner.containers.registry import PullAnswer, read_answer, read_manifest
from provisioner.containers.registry import ask_registry as ask
from provisioner.transport.fake import FakeTransport

MANIFESTS = Path(__file__).parents[1] / "cases" / "manifests"
HUB, OWN = "pytorch/pytorch:2", "registry.example:5000/pytorch/pytorch:2"


def manifest(name: str) -> str:
    return (MANIFESTS / f"{name}.json").read_text()


@pytest.mark.parametrize(
    ("name", "machine", "expected"),
    [
        ("single-verbose", "x86_64", PullAnswer(True, 155)),
        ("single-plain", "x86_64", PullAnswer(True, 155)),
        ("list-verbose", "x86_64", PullAnswer(True, 155)),
        ("list-verbose", "aarch64", PullAnswer(True, 157)),
        ("list-plain", "aarch64", PullAnswer(True, None)),
    ],
)
def test_the_layers_of_the_hosts_architecture_are_summed(
    name: str, machine: str, expected: PullAnswer
) -> None:
    assert read_manifest(manifest(name), machine) == expected


@pytest.mark.parametrize("name", ["list-verbose", "list-plain"])
def test_an_image_for_other_machines_cannot_be_pulled(name: str) -> None:
    answer = read_manifest(manifest(name), "s390x")
    assert answer.can_pull is False
    assert "s390x" in answer.reason


def platforms(*names: str) -> str:
    """A list of images for such platforms, of 1, 2, ... bytes."""
    entries = []
    for size, name in enumerate(names, start=1):
        system, _, architecture = name.partition("/")
        platform = {"os": system, "architecture": architecture}
        entries.append({"Descriptor": {"platform": platform}, "layers": [{"size": size}]})
    return json.dumps(entries)


def test_an_image_for_another_system_is_none_for_the_host() -> None:
    assert read_manifest(platforms("windows/amd64"), "x86_64").can_pull is False
    both = platforms("windows/amd64", "linux/amd64")
    assert read_manifest(both, "x86_64") == PullAnswer(True, 2)
    unsaid = both.replace('"os": "linux", ', "")
    assert read_manifest(unsaid, "x86_64") == PullAnswer(True, 2)


@pytest.mark.parametrize("machine", ["", "x\nhonest: free\x1b[2J", "m" * 33])
def test_a_kind_of_machine_that_makes_no_sense_is_not_shown(machine: str) -> None:
    assert read_manifest(platforms("linux/amd64"), machine) == PullAnswer(True)


@pytest.mark.parametrize("inner", [True, False])
def test_an_answer_that_would_take_much_memory_is_not_read(inner: bool) -> None:
    lists = '{"layers":[{"size":155}],"x":[' + "[]," * 300_000 + "[]]}"
    printed = told(200, manifest=lists) if inner else b'{"status":500,' + lists[1:].encode()
    answer = read_answer(Result(Command.of("x"), 0, printed), HUB)
    assert (answer.can_pull, answer.size) == (None, None)
    assert read_manifest(lists, "x86_64") == PullAnswer(True, None)
    host = FakeTransport(lambda c: Result(c, 0, told(200)))
    ask(host, HUB)
    assert host.commands[0].max_output_bytes <= 2 << 20


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(manifest("single-plain")), **values})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Welcome!",
        "[" * 100_000,
        "7",
        "[]",
        '"\\ud800"',
        "[7, null]",
        '{"manifests": "none"}',
        '[{"Descriptor": 7}]',
        '{"SchemaV2Manifest": []}',
        changed(layers=7),
        changed(layers=[]),
        changed(layers=[7]),
        changed(layers=[{"size": "155"}]),
        changed(layers=[{"size": -1}]),
        changed(layers=[{"size": True}]),
        changed(layers=[{"size": 1e300}]),
        changed(layers=[{"size": 10**30}]),
        changed(layers=[{"size": 155}, {}]),
        changed(layers=[{"size": 1 << 45}] * 3),
    ],
)
def test_a_manifest_that_makes_no_sense_tells_no_size(text: str) -> None:
    assert read_manifest(text, "x86_64") == PullAnswer(True, None)


def told(status: int, engine: str = "", manifest: str = "", client: str = "") -> bytes:
    answer = {"status": status, "engine_said": engine, "manifest": manifest}
    return json.dumps({**answer, "client_said": client, "machine": "x86_64"}).encode()


DENIED = "denied: requested access to the resource is denied"
LOOKUP = 'Get "https://registry-1.docker.io/v2/": dial tcp: lookup failed: no such host'


@pytest.mark.parametrize(
    ("printed", "source", "can_pull", "reason"),
    [
        (told(200, manifest=manifest("single-plain")), HUB, True, ""),
        (told(200, client="unknown flag: --verbose"), HUB, True, ""),
        (told(500, LOOKUP), HUB, False, LOOKUP),
        (told(504, "no answer within 20 s"), HUB, False, "no answer within 20 s"),
        (told(404, "manifest unknown"), OWN, False, "manifest unknown"),
        (told(429, "toomanyrequests", client="toomanyrequests"), HUB, False, "toomanyrequests"),
        (told(429, "toomanyrequests", manifest("single-plain")), HUB, True, ""),
        (told(403, "denied", client=DENIED), HUB, False, DENIED),
        (told(401, "unauthorized", client=DENIED), "docker.io/team/image", False, DENIED),
        (told(401, "unauthorized", client="odd"), OWN, None, "odd"),
        (told(401, "unauthorized", manifest("single-plain")), OWN, True, ""),
        (told(0, "no such file", client="manifest is no command"), HUB, None, "no command"),
        (told(0, manifest=manifest("single-plain")), HUB, True, ""),
        (told(500, "\x1b[2Jevil\nline"), HUB, False, "evil line"),
        (told(500), HUB, False, "status 500"),
        (b"Welcome!", HUB, None, "makes no sense"),
        (b'{"status": "200"}', HUB, None, "makes no sense"),
        (b'{"status": 500, "engine_said": 7, "client_said": []}', HUB, False, "status 500"),
        (b"[]", HUB, None, "makes no sense"),
    ],
)
def test_what_the_host_told_decides(
    printed: bytes, source: str, can_pull: bool | None, reason: str
) -> None:
    answer = read_answer(Result(Command.of("x"), 0, printed), source)
    assert answer.can_pull is can_pull
    assert reason in answer.reason
    assert not {"\n", "\x1b"} & set(answer.reason)


def test_a_program_that_failed_decides_nothing() -> None:
    failed = Result(Command.of("x"), 1, b"", b"python3: not found")
    assert read_answer(failed, HUB).can_pull is None


def test_a_proxys_password_is_in_no_argument() -> None:
    host = FakeTransport(lambda c: Result(c, 0, told(200)))
    assert ask(host, HUB, "http://ana:secret@proxy.example:3128") == PullAnswer(True)
    [command] = host.commands
    assert command.words[-1] == HUB
    assert "secret" not in str(command)
    assert command.stdin == b"http://ana:secret@proxy.example:3128\n"


@pytest.mark.parametrize("program", [ask_registry, receive_image])
def test_the_hosts_programs_run_on_python_3_8(program: Any) -> None:
    source = Path(program.__file__).read_text()
    ast.parse(source, feature_version=(3, 8))
    assert "provisioner" not in source


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Docker's API: what it answers to each path."""

    daemon_threads = True

    def __init__(self, path: str, answers: dict[str, tuple[int, str]]) -> None:
        self.answers = answers
        super().__init__(path, EngineHandler)


class EngineHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Engine)
        status, body = self.server.answers.get(self.path, (404, '{"message":"page not found"}'))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def engine(path: Path, answers: dict[str, tuple[int, str]]) -> Iterator[None]:
    server = Engine(str(path), answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


CLIENT = """\
#!/bin/sh
[ "$1" != context ] || { cat "$STATE/context"; exit; }
echo "$*" >>"$STATE/calls"
echo "proxy $HTTPS_PROXY" >>"$STATE/calls"
case "$*" in
*--verbose*) [ ! -e "$STATE/old" ] || { echo "unsupported manifest format" >&2; exit 1; } ;;
esac
[ -e "$STATE/manifest" ] || { echo "no such manifest: $4" >&2; exit 1; }
cat "$STATE/manifest"
"""


def run_program(
    state: Path,
    source: str,
    answers: dict[str, tuple[int, str]],
    proxy: str = "",
    docker_host: str | None = None,
) -> tuple[PullAnswer, list[str]]:
    """What the host's program makes of an engine and a client; the client's calls."""
    (state / "docker").write_text(CLIENT)
    (state / "docker").chmod(0o755)
    environment = {
        "PATH": f"{state}:{os.environ['PATH']}",
        "STATE": str(state),
        "DOCKER_HOST": f"unix://{state}/socket" if docker_host is None else docker_host,
    }
    program = Path(ask_registry.__file__).read_text()
    with engine(state / "socket", answers):
        done = subprocess.run(
            [sys.executable, "-I", "-c", program, source],
            input=f"{proxy}\n".encode(),
            capture_output=True,
            env=environment,
            timeout=60,
        )
    assert done.stderr == b""
    calls = state / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    result = Result(Command.of("x"), done.returncode, done.stdout)
    return read_answer(result, source), lines


REACHED = (200, '{"Descriptor":{}}')


def test_engine_and_client_tell_what_is_pulled(tmp_path: Path) -> None:
    (tmp_path / "manifest").write_text(manifest("single-verbose"))
    answers = {f"/distribution/{OWN}/json": REACHED}
    answer, calls = run_program(tmp_path, OWN, answers, "http://proxy.example:3128")
    assert answer == PullAnswer(True, 155)
    assert calls == [f"manifest inspect --verbose {OWN}", "proxy http://proxy.example:3128"]


def test_the_engine_is_the_one_that_the_client_uses(tmp_path: Path) -> None:
    (tmp_path / "context").write_text(f"unix://{tmp_path}/socket\n")
    answers = {f"/distribution/{HUB}/json": (500, json.dumps({"message": LOOKUP}))}
    answer, _ = run_program(tmp_path, HUB, answers, docker_host="")
    assert answer == PullAnswer(False, None, LOOKUP)


def test_a_client_that_shows_no_list_in_full_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "manifest").write_text(manifest("single-plain"))
    (tmp_path / "old").touch()
    answer, calls = run_program(tmp_path, HUB, {f"/distribution/{HUB}/json": REACHED})
    assert answer == PullAnswer(True, 155)
    assert f"manifest inspect {HUB}" in calls


@pytest.mark.parametrize(
    ("source", "info", "insecure"),
    [
        (OWN, {"registry.example:5000": {"Secure": False}}, True),
        (OWN, {"registry.example:5000": {"Secure": True}}, False),
        (OWN, {"other.example": {"Secure": False}}, False),
        (OWN, None, False),
        ("127.0.0.1:5000/team/image:1", {}, True),
        (HUB, {"docker.io": {"Secure": True}}, False),
    ],
)
def test_the_client_does_without_tls_only_where_the_engine_was_told_to(
    tmp_path: Path, source: str, info: dict[str, Any] | None, insecure: bool
) -> None:
    told = json.dumps({"RegistryConfig": {"IndexConfigs": info}})
    answers = {f"/distribution/{source}/json": REACHED, "/info": (200, told)}
    answer, calls = run_program(tmp_path, source, answers)
    assert answer == PullAnswer(True, None)  # the client found no manifest, but the engine did
    assert calls[0].startswith("manifest inspect --insecure --verbose") is insecure


def test_an_engine_that_does_not_reach_the_registry_decides(tmp_path: Path) -> None:
    answers = {f"/distribution/{HUB}/json": (500, json.dumps({"message": LOOKUP}))}
    answer, calls = run_program(tmp_path, HUB, answers)
    assert answer == PullAnswer(False, None, LOOKUP)
    assert calls == []


def test_an_engine_that_does_not_know_the_question_leaves_it_to_the_client(tmp_path: Path) -> None:
    answer, _ = run_program(tmp_path, HUB, {})
    assert answer == PullAnswer(None, None, f"no such manifest: {HUB}")
