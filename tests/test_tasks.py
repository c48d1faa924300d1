"""The commands as a user types them: wrong input ends with one clear message and exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tasks
from inventory import Host
from provisioner import arguments
from provisioner.agent.client import LogChunk
from provisioner.containers.activity import Activity
from provisioner.containers.image_supply import Supply
from provisioner.errors import (
    BlockedError,
    ConnectError,
    ExitCode,
    RigupError,
    StepFailed,
    UnknownHostKey,
)
from provisioner.report import HostReport, StepReport
from provisioner.train.placement import Choice
from provisioner.train.request import Request
from remote_agent.protocol.job import JobRecord, JobSpec

ROOT = Path(tasks.__file__).parent
INVENTORY = "hosts: {gpu01: {address: 192.0.2.1}, gpu02: {address: 192.0.2.2}}\n"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str
    raw: bytes


class Command:
    """Runs ``rigup`` in this process, in a directory with an inventory of two hosts."""

    def __init__(
        self, capfd: pytest.CaptureFixture[bytes], patch: pytest.MonkeyPatch, directory: Path
    ) -> None:
        self.capfd = capfd
        self.patch = patch
        self.directory = directory

    def __call__(self, *words: str) -> Done:
        self.patch.setattr(sys, "argv", ["rigup", *words])
        code = 0
        try:
            tasks.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        sys.stdout.flush()
        shown = self.capfd.readouterr()
        return Done(code, shown.out.decode("utf-8", "replace"), shown.err.decode(), shown.out)


@pytest.fixture
def rigup(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "inventory").mkdir()
    (tmp_path / "work" / "inventory" / "hosts.yaml").write_text(INVENTORY)
    (tmp_path / "work" / "train.py").touch()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path / "rigup"))
    monkeypatch.delenv("RIGUP_INVENTORY", raising=False)
    monkeypatch.setattr("provisioner.jobs.SshTransport", refuse_connections)
    monkeypatch.setattr("provisioner.jobs.connect", refuse_connections)
    monkeypatch.setattr("provisioner.train.probe.SshTransport", refuse_connections)
    return Command(capfdbinary, monkeypatch, tmp_path / "work")


def refuse_connections(*arguments: Any, **options: Any) -> None:
    pytest.fail("a wrong command reached for a host")


def is_one_clear_message(done: Done, *words: str, code: int = 2) -> None:
    assert done.code == code, done
    assert done.out == ""
    assert 0 < len(done.err.splitlines()) <= 20, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("facts --host gpu1", ["gpu1", "gpu01"]),
        ("facts --host gpu01,nowhere", ["nowhere"]),
        ("facts --group lab", ["lab"]),
        ("facts", ["--host"]),
        ("facts --inventory missing.yaml --all", ["missing.yaml"]),
        ("provision --host nowhere", ["nowhere"]),
        ("provision --host gpu01 --only dokcer", ["--only dokcer", "docker, "]),
        ("provision --host gpu01 --skip ,", ["--skip ','", "commas"]),
        ("provision --host gpu01 --serial 0", ["--serial 0", "1 to 64"]),
        ("provision --host gpu01 --timeout soon", ["--timeout 'soon'", "whole number"]),
        ("provision --host gpu01 --reboot --yes --reboot-timeout 1", ["--reboot-timeout 1"]),
        ("uninstall --host gpu01 --yes --keep dokcer", ["--keep dokcer", "docker, "]),
        ("uninstall --host nowhere --check", ["nowhere"]),
        ("trust --host nowhere", ["nowhere"]),
        ("jobs --host nowhere", ["nowhere"]),
        ("logs some-job --host nowhere", ["nowhere"]),
        ("logs ../etc", ["is no job id", "rigup jobs"]),
        ("describe *", ["is no job id"]),
        ("stop some-job --host nowhere", ["nowhere"]),
        ("pull some-job --host nowhere", ["nowhere"]),
        ("container.up --host nowhere", ["nowhere"]),
        ("dashboard --host nowhere", ["nowhere"]),
        ("train --script train.py --host nowhere", ["nowhere"]),
        ("train --script train.py --group nowhere", ["nowhere"]),
        ("train --script other.py --host gpu01", ["no script 'other.py'", "finetune_llama.py"]),
        ("train --script train.py --host gpu01 --gpus many", ["--gpus 'many'", "0,2"]),
        ("train --script train.py --host gpu01 --gpus -1", ["--gpus '-1'"]),
        ("train --script train.py --host gpu01 --gpus 1,1", ["--gpus '1,1'", "twice"]),
        ("train --script train.py --host gpu01 --gpu-type h100 --gpus 0", ["no GPU"]),
        ("train --script train.py --min-gpu-memory much", ["--min-gpu-memory 'much'", "24g"]),
        ("train --script train.py --launcher mpirun", ["--launcher mpirun", "torchrun"]),
        ("train", ["no script was named", "--script finetune_llama.py"]),
        ("train -- torchrun --nnodes 2 train.py", ["--nnodes 2", "one host"]),
        ("train --script train.py --host gpu01 --gpus 1.5", ["--gpus '1.5'"]),
        ("train --script train.py --host gpu01 --runtime slurm", ["--runtime slurm", "process"]),
        ("train --script train.py --host gpu01 --env 1X=2", ["--env 1X", "--env NAME=VALUE"]),
        ("train --script train.py --host gpu01 --env =2", ["not a variable name"]),
        ("train --script train.py --host gpu01 --env A-B=2", ["--env A-B"]),
        ("train --script train.py --host gpu01 --env NOT_SET_HERE", ["not set here", "=VALUE"]),
        ("facts --host gpu01 --sudo-password-fd x", ["--sudo-password-fd 'x'"]),
        ("facts --host gpu01 --sudo-password-fd 987654", ["--sudo-password-fd 987654"]),
        ("lab.up --hosts 0", ["--hosts 0", "1 to 32"]),
        ("lab.up --hosts many", ["--hosts 'many'"]),
        ("facts --no-such-option", ["--no-such-option"]),
        ("no-such-command", ["no-such-command"]),
        ("logs", ["job"]),
    ],
)
def test_wrong_input(rigup: Command, words: str, said: list[str]) -> None:
    is_one_clear_message(rigup(*words.split()), *said)


class Place:
    """Stands in for a host that was chosen and is connected."""

    def __init__(self, request: Request, host: Host, *, image: str | None = None) -> None:
        self.request, self.host, self.client = request, host, self
        self.choice = Choice(host.name, 2, waits=False, reason="2 of 2 GPUs free")
        self.supply = image and Supply(image, None, None, None, 0, (f"{image} is there",))
        self.runtime = "container" if image else "process"
        self.command = ("python", request.script.argument, *request.arguments)
        self.closed = False

    def partial_blobs(self, digests: list[str], sizes: dict[str, int]) -> dict[str, int]:
        return dict.fromkeys(digests[:1], 0)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """Every job goes to gpu01; nothing is sent."""
    made: list[Place] = []

    def place(hosts: Sequence[Host], request: Request, note: Any, *, only_plan: bool) -> Place:
        made.append(Place(request, hosts[0], image=None if request.runtime == "process" else "img"))
        return made[-1]

    monkeypatch.setattr("provisioner.train.submission.place", place)
    monkeypatch.setattr("provisioner.train.submission.submit", lambda place, tree, note: RECORD)
    return made


def test_a_variable_that_is_set_here_is_accepted_and_not_shown(
    rigup: Command, monkeypatch: pytest.MonkeyPatch, places: list[Place]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    words = "train --script train.py --host gpu01 --env HF_TOKEN --env A=b=c --env EMPTY= --gpus 2"
    done = rigup(*words.split(), "--", "--lr", "1e-4", "two words")
    assert (done.code, done.out) == (0, "train-1\n")
    assert "hunter2" not in done.out + done.err
    [place] = places
    assert place.host.name == "gpu01"
    assert place.request.environment == {"HF_TOKEN": "hunter2", "A": "b=c", "EMPTY": ""}
    assert place.request.arguments == ("--lr", "1e-4", "two words")
    assert place.request.gpus.count == 2
    assert place.closed


def test_who_stops_following_is_told_that_the_job_goes_on(
    rigup: Command, monkeypatch: pytest.MonkeyPatch, places: list[Place]
) -> None:
    def follow(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("provisioner.jobs.follow_to_end", follow)
    done = rigup("train", "--script", "train.py", "--host", "gpu01", "--follow")
    assert done.code == 130
    assert "stopped following; the job goes on. End it: rigup stop train-1" in done.err
    assert "follow it" not in done.err


def test_a_launchers_line_says_what_the_options_would(rigup: Command, places: list[Place]) -> None:
    words = "train -- torchrun --nproc-per-node 2 train.py --lr 1"
    assert rigup(*words.split()).code == 0
    [place] = places
    asked = place.request
    assert (asked.launcher, asked.gpus.count, asked.arguments) == ("torchrun", 2, ("--lr", "1"))
    rigup(
        *[
            "train",
            "--gpus",
            "1,3",
            "--launcher",
            "none",
            "--",
            "torchrun",
            "--nproc-per-node",
            "2",
            "train.py",
        ]
    )
    asked = places[1].request
    assert (asked.launcher, asked.gpus.indices) == ("none", (1, 3)), "options win"
    assert rigup("train", "--all", "--gpus", "", "--script", "train.py").code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosts: {gpu01: {port: ssh}}", ["hosts.yaml", "port"]),
        ("hosts: [gpu01", ["hosts.yaml"]),
        ("", ["hosts.yaml"]),
    ],
)
def test_a_broken_inventory_names_file_and_place(
    rigup: Command, text: str, said: list[str]
) -> None:
    (rigup.directory / "inventory" / "hosts.yaml").write_text(text)
    is_one_clear_message(rigup("facts", "--all"), *said)


def test_no_inventory_at_all(rigup: Command) -> None:
    (rigup.directory / "inventory" / "hosts.yaml").unlink()
    is_one_clear_message(rigup("facts", "--all"), "inventory/hosts.yaml")


def test_a_script_that_is_not_found_lists_the_examples_and_places(rigup: Command) -> None:
    done = rigup("train", "--script", "fintune_llama.py", "--host", "gpu01")
    is_one_clear_message(done, str(rigup.directory), "examples", "finetune_llama.py")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectError("no answer in time", host="gpu01", remedy="switch it on"), 1),
        (
            UnknownHostKey(
                "not known", fingerprint="SHA256:x", host="gpu01", remedy="ask whoever runs it"
            ),
            3,
        ),
        (BlockedError("waits", host="gpu01", remedy="enrol the key"), 3),
    ],
)
def test_a_host_that_fails_gives_its_error_and_exit_code(
    rigup: Command, monkeypatch: pytest.MonkeyPatch, error: RigupError, code: int
) -> None:
    def fail(host: Host, **options: object) -> None:
        raise error

    monkeypatch.setattr("provisioner.provisioning.read_facts", fail)
    done = rigup("facts", "--host", "gpu01")
    assert done.code == code
    assert f"gpu01: {error.message}\ntry: {error.remedy}" in done.err


def test_one_bad_host_hides_no_other(rigup: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        def items(self) -> list[tuple[str, str]]:
            return [("os", "fine")]

    def read(host: Host, **options: object) -> Found:
        if host.name == "gpu01":
            raise ConnectError("no answer")
        return Found()

    monkeypatch.setattr("provisioner.provisioning.read_facts", read)
    done = rigup("facts", "--all")
    assert done.code == 1
    assert "gpu02\n  os  fine" in done.out
    assert "gpu01: no answer" in done.err
    as_json = rigup("facts", "--all", "--json")
    assert as_json.code == 1
    assert '"message": "no answer"' in as_json.out
    assert '"os": "fine"' in as_json.out


def reported(*reports: HostReport) -> Any:
    return lambda hosts, progress, wishes, **options: reports


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([HostReport("a")], ExitCode.DONE),
        ([HostReport("a"), HostReport("b", (StepReport("x", "blocked", "y"),))], ExitCode.BLOCKED),
        (
            [
                HostReport("a", (StepReport("x", "blocked", "y"),)),
                HostReport("b", error=StepFailed("z")),
            ],
            ExitCode.FAILED,
        ),
    ],
)
def test_provisions_exit_code_is_that_of_the_worst_host(
    rigup: Command, monkeypatch: pytest.MonkeyPatch, reports: list[HostReport], code: int
) -> None:
    monkeypatch.setattr("provisioner.provisioning.provision_hosts", reported(*reports))
    done = rigup("provision", "--all", "--check")
    assert done.code == code
    assert all(f"{report.host}: " in done.out for report in reports)


@pytest.mark.parametrize("words", ["provision --all --reboot", "uninstall --all"])
def test_a_reboot_and_a_removal_need_a_person(rigup: Command, words: str) -> None:
    is_one_clear_message(rigup(*words.split()), "confirmation required", "--yes", code=3)


def test_pinning_needs_a_person(rigup: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    class Offer(tasks.trust.Offer):
        fingerprint = "SHA256:abc"

    def offered_keys(host: Host, replace: bool) -> list[Offer]:
        return [Offer(host, ("ssh-ed25519", "AAAA"), "192.0.2.1", False)]

    pinned: list[str] = []
    monkeypatch.setattr("provisioner.trust.offered_keys", offered_keys)
    monkeypatch.setattr("provisioner.trust.pin", lambda name, keys: pinned.append(name))
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    done = rigup("trust", "--host", "gpu01")
    sys.stdin.close()
    assert done.code == ExitCode.BLOCKED
    assert "SHA256:abc (not pinned)" in done.out
    assert "--yes" in done.err
    assert pinned == []
    assert rigup("trust", "--host", "gpu01", "--yes").code == 0
    assert pinned == ["192.0.2.1"]


def test_what_the_disk_refuses_is_a_message(
    rigup: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(host: Host, **options: object) -> None:
        raise OSError(28, "No space left on device", "/outputs/model.bin")

    monkeypatch.setattr("provisioner.provisioning.read_facts", full)
    is_one_clear_message(
        rigup("facts", "--host", "gpu01"), "No space left on device", "model.bin", code=1
    )


class LogClient:
    log = b"0123456789\xff\r"

    def read_log(self, job_id: str, offset: int, *, limit: int) -> LogChunk:
        return LogChunk(offset, self.log[offset:], len(self.log), RECORD)


RECORD = JobRecord(
    JobSpec(job_id="train-1", name="train", argv=("x",)), "succeeded", 0.0, log_bytes=12
)


@pytest.mark.parametrize(
    ("options", "start"), [([], 0), (["--tail", "4"], 8), (["--tail", "99"], 0)]
)
def test_a_log_is_printed_byte_for_byte(
    rigup: Command,
    monkeypatch: pytest.MonkeyPatch,
    options: Sequence[str],
    start: int,
) -> None:
    host = Host("gpu01", "gpu01")
    monkeypatch.setattr("provisioner.jobs.find", lambda *arguments, **options: (host, RECORD))
    monkeypatch.setattr("provisioner.jobs.with_agent", lambda one, work: work(LogClient()))
    done = rigup("logs", "train-1", *options)
    assert (done.code, done.raw) == (0, LogClient.log[start:])


def test_words_after_two_dashes_reach_the_script_unchanged() -> None:
    argv = ["rigup", "train", "--script", "x", "--", "--text", "a b", "", "--", "$HOME"]
    assert arguments.after_dashes(argv) == ("--text", "a b", "", "--", "$HOME")
    assert arguments.after_dashes(["rigup", "train"]) == ()


COMMANDS = sorted(tasks.namespace.task_names)


def test_the_list_shows_every_command_with_a_sentence(rigup: Command) -> None:
    done = rigup("--list")
    assert done.code == 0
    for name in COMMANDS:
        line = next(line for line in done.out.splitlines() if line.split()[:1] == [name])
        assert len(line.split()) > 2, line


EXPLAIN = """
import json, tasks
names = tasks.namespace.task_names
arguments = {name: tasks.namespace[name].get_arguments() for name in names}
print(json.dumps({name: {a.name: a.help for a in found} for name, found in arguments.items()}))
"""


def test_every_command_and_every_option_is_explained() -> None:
    """In a process of its own: Invoke hands its help texts out once."""
    done = subprocess.run(
        [sys.executable, "-c", EXPLAIN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    explained = json.loads(done.stdout)
    assert sorted(explained) == COMMANDS
    for name, options in explained.items():
        assert (tasks.namespace[name].__doc__ or "").strip(), name
        assert all(options.values()), f"{name}: {options}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(rigup: Command, name: str) -> None:
    done = rigup("--help", name)
    assert done.code == 0
    assert "Traceback" not in done.err
    assert name in done.out


def test_a_container_is_left_where_nobody_could_look_into_it(rigup: Command) -> None:
    """Not to know who works there is not to know that nobody does."""
    down: list[tuple[str, bool]] = []

    def activity(host: Host, name: str) -> Activity:
        if host.name == "gpu01":
            raise ConnectError("no answer", host=host.name, remedy="look at it")
        return Activity()

    def take(host: Host, name: str, *, forget: bool, end_sessions: bool) -> bool:
        down.append((host.name, end_sessions))
        return True

    rigup.patch.setattr("provisioner.containers.on_hosts.activity", activity)
    rigup.patch.setattr("provisioner.containers.on_hosts.down", take)
    done = rigup("container.down", "--host", "gpu01,gpu02")
    assert done.code == 1
    assert down == [("gpu02", False)]
    assert "gpu02-torch: removed" in done.out
    assert "gpu01: no answer" in done.err
    done = rigup("container.down", "--host", "gpu01,gpu02", "--yes")
    assert down == [("gpu02", False), ("gpu02", True)]


READING = {"provision", "facts", "train", "jobs", "describe", "container.list", "lab.status"}


@pytest.mark.parametrize("name", sorted(READING))
def test_reading_commands_speak_json(name: str) -> None:
    assert "json" in [argument.name for argument in tasks.namespace[name].get_arguments()]


def test_the_program_itself_from_another_directory(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "RIGUP_HOME": str(tmp_path)}
    environment.pop("RIGUP_INVENTORY", None)
    done = subprocess.run(
        [sys.executable, "-c", "import tasks; tasks.main()", "facts", "--host", "nowhere"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


class TestDryRun:
    @pytest.fixture(autouse=True)
    def code(self, rigup: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(rigup.directory))
        (Path.cwd() / ".env").write_text("TOKEN=hunter2")
        (Path.cwd() / ".gitignore").write_text("*.ckpt\n")
        (Path.cwd() / "old.ckpt").write_text("x" * 2000)

    def test_a_wrong_request_is_refused_all_the_same(self, rigup: Command) -> None:
        done = rigup(
            *["train", "--script", "train.py", "--host", "gpu01", "--runtime", "slurm", "--dry-run"]
        )
        assert (done.code, "--runtime slurm" in done.err) == (2, True)

    def test_it_shows_what_would_run_and_travel(self, rigup: Command, places: list[Place]) -> None:
        words = "train --script train.py --host gpu01 --gpus 2 --dry-run -- --epochs 3"
        done = rigup(*words.split())
        assert done.code == 0
        assert "python train.py --epochs 3" in done.out
        shown = ["gpu01", "2 of 2 GPUs free", "img is there", "container"]
        shown += [
            "to be sent: 1 of its 3 files",
            "inventory/hosts.yaml",
            ".env (may hold a secret)",
            "(ignored)",
        ]
        for text in shown:
            assert text in done.out
        assert "hunter2" not in done.out + done.err
        assert "no job started (--dry-run)" in done.err
        assert places[0].closed

    def test_as_json(self, rigup: Command, places: list[Place]) -> None:
        words = "train --script train.py --host gpu01 --runtime process --dry-run --json"
        done = rigup(*words.split())
        told = json.loads(done.out)
        assert (told["host"], told["runtime"]) == ("gpu01", "process")
        assert told["command"] == ["python", "train.py"]
        assert told["code"]["files_to_send"] == 1
        left_out = {row["path"]: row["reason"] for row in told["code"]["left_out"]}
        assert left_out == {".env": "may hold a secret", "old.ckpt": "ignored"}
        travels = {row["path"] for row in told["code"]["files"]}
        assert travels == {".gitignore", "train.py", "inventory/hosts.yaml"}
