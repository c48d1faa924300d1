"""What hosts answer to doctor's probes: captured text (tests/cases/doctor/probes.yaml), and the
scripts themselves, really run by ``sh`` with stand-in programs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.doctor.probes import PROBES
from provisioner.doctor.probes.agent_files import AGENT_FILES
from provisioner.doctor.probes.docker_access import DOCKER_ACCESS
from provisioner.doctor.probes.docker_journal import DOCKER_JOURNAL
from provisioner.doctor.probes.docker_settings import DOCKER_SETTINGS
from provisioner.doctor.probes.gpu_containers import (
    GPU_CONTAINERS,
    MOST_CONTAINERS,
    GpuContainer,
)
from provisioner.doctor.probes.gpu_health import GPU_HEALTH
from provisioner.doctor.probes.jobs import JOBS
from provisioner.doctor.probes.storage import STORAGE
from provisioner.facts.base import Fact, Unreadable, compose, parse
from provisioner.facts.kernel_log import KERNEL_LOG

NONCE = "00112233445566aa"
BY_NAME = {probe.name: probe for probe in PROBES}
CASES = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "doctor" / "probes.yaml").read_text("utf-8")
)
TOOLS = (
    *("sh", "cat", "cut", "sed", "grep", "tail", "head", "tr", "id", "true", "timeout", "awk"),
    *("paste", "mkfifo", "mktemp", "rm", "sleep"),
)

Run = Callable[..., Any]


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return [plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    return [plain(item) for item in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}: {case['name']}")
        for name, rows in CASES.items()
        for case in rows
    ],
)
def test_captured_answer(name: str, case: dict[str, Any]) -> None:
    text = f"\n{NONCE} begin {name}\n{case['text']}\n{NONCE} exit 0\n\n{NONCE} end\n"
    found = parse(text, [BY_NAME[name]], NONCE)[name]
    if "unreadable" in case:
        assert isinstance(found, Unreadable)
        assert case["unreadable"] in found.reason
        return
    assert not isinstance(found, Unreadable), found.reason
    assert {key: plain(getattr(found, key)) for key in case["expect"]} == case["expect"]


def test_every_probe_has_cases() -> None:
    assert set(CASES) == set(BY_NAME)


@pytest.fixture
def on_host(tmp_path: Path) -> Run:
    """Runs a probe's real script where only the given programs and a few tools exist."""

    def run(probe: Fact[Any], programs: Mapping[str, str], state_dir: str = "") -> Any:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in set(TOOLS) - set(programs):
            (folder / name).symlink_to(shutil.which(name) or "/nowhere")
        for name, body in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)
        script = compose([probe], NONCE)
        assert 'PATH="' in script
        own = "\n".join(
            f"export LC_ALL=C PATH={folder}" if line.startswith("export LC_ALL") else line
            for line in script.splitlines()
        )
        done = subprocess.run(
            ["/bin/sh", "-s"],
            input=own.encode(),
            capture_output=True,
            timeout=60,
            env={**os.environ, "PATH": str(folder), "STATE_DIR": state_dir},
        )
        return parse(done.stdout.decode("utf-8", "replace"), [probe], NONCE)[probe.name]

    return run


XID_LINE = "2026-11-20T04:05:06,1+00:00 NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus."


def test_the_kernel_log_comes_from_dmesg_and_only_what_matters(on_host: Run) -> None:
    dmesg = f"cat <<'END'\nusb 1-1: new device\n{XID_LINE}\nOut of memory: Killed process 7\nEND"
    found = on_host(KERNEL_LOG, {"dmesg": dmesg})
    assert found.source == "dmesg"
    assert found.lines == (XID_LINE, "Out of memory: Killed process 7")


def test_an_old_dmesg_without_iso_times_is_asked_plainly(on_host: Run) -> None:
    dmesg = 'case "$*" in *iso*) exit 1 ;; esac; echo "[1.0] NVRM: x"'
    assert on_host(KERNEL_LOG, {"dmesg": dmesg}).lines == ("[1.0] NVRM: x",)


def test_the_journal_is_asked_where_dmesg_is_forbidden(on_host: Run) -> None:
    programs = {"dmesg": "exit 1", "journalctl": f"echo '{XID_LINE}'"}
    found = on_host(KERNEL_LOG, programs)
    assert (found.source, found.lines) == ("journalctl -k", (XID_LINE,))


def test_a_kernel_log_of_megabytes_is_cut_to_its_newest_lines(on_host: Run) -> None:
    long = "x" * 900
    loop = f'i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo "[$i] NVRM: {long}"; done'
    lines = on_host(KERNEL_LOG, {"dmesg": loop}).lines
    assert len(lines) == 200
    assert lines[-1].startswith("[5000] NVRM: x")


def test_an_xid_is_not_pushed_out_by_whatever_else_is_said(on_host: Run) -> None:
    loop = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo [$i] nvidia-modeset: loading; done"
    lines = on_host(KERNEL_LOG, {"dmesg": f"echo '{XID_LINE}'; {loop}"}).lines
    assert lines[0] == XID_LINE
    assert lines[-1] == "[5000] nvidia-modeset: loading"


def test_nvidia_smi_is_asked_for_the_fields_it_knows(on_host: Run) -> None:
    smi = (
        'case "$1" in --help*) cat <<END\n"index"\n"pci.bus_id"\n"gpu_recovery_action"\nEND\n'
        'exit 0 ;; esac; echo "$*" | grep -q ecc && exit 2; echo "0, 00000000:05:00.0, None"'
    )
    found = on_host(GPU_HEALTH, {"nvidia-smi": smi})
    assert found.exit_code == 0
    expected = {"index": "0", "pci.bus_id": "00000000:05:00.0", "gpu_recovery_action": "None"}
    assert found.gpus == (expected,)


def test_how_nvidia_smi_ended_and_what_it_said(on_host: Run) -> None:
    found = on_host(GPU_HEALTH, {"nvidia-smi": "echo 'No devices were found'; exit 6"})
    assert (found.exit_code, found.said) == (6, ("No devices were found",))


def test_docker_journal_and_state(on_host: Run) -> None:
    systemctl = 'case "$1" in show) echo loaded ;; is-active) echo failed; exit 3 ;; esac'
    programs = {"docker": "exit 1", "journalctl": "echo 'level=fatal'", "systemctl": systemctl}
    found = on_host(DOCKER_JOURNAL, programs)
    assert (found.state, found.lines) == ("failed", ("level=fatal",))


def test_a_job_is_watched_while_its_supervisor_is_the_same_process(
    on_host: Run, tmp_path: Path
) -> None:
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    own = {"pid": os.getpid(), "start_ticks": int(ticks)}
    states: dict[str, dict[str, Any]] = {
        "live-1": {"state": "running", "supervisor": own},
        "gone-1": {"state": "running", "supervisor": {**own, "start_ticks": 1}},
        "over-1": {"state": "succeeded", "supervisor": own},
    }
    for name, state in states.items():
        (tmp_path / "state" / "jobs" / name).mkdir(parents=True)
        text = json.dumps(state, indent=1, sort_keys=True)  # as the agent writes it
        (tmp_path / "state" / "jobs" / name / "state.json").write_text(text)
    programs = {"getent": f"echo x:x:0:0::{tmp_path}:/bin/sh"}
    found = on_host(JOBS, programs, state_dir="state")
    assert (found.watched, found.unwatched, found.damaged) == (("live-1",), ("gone-1",), ())


INSPECT = """\
1|/with|[{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}] [] runtime=runc
2|/cdi|[{"Driver":"cdi","DeviceIDs":["nvidia.com/gpu=all"]}] [] runtime=runc
3|/plain|null [] runtime=runc
4|/by runtime|null [] runtime=nvidia
5|/device|null [{"PathOnHost":"/dev/nvidia0"}] runtime=runc
"""


def docker(inspected: str, execution: str) -> dict[str, str]:
    return {
        "docker": 'case "$1" in ps) echo 1 2 3 4 5 ;; '
        f"inspect) cat <<'END'\n{inspected}END\n;; exec) shift; {execution} ;; esac"
    }


def test_only_containers_with_gpus_are_asked(on_host: Run) -> None:
    found = on_host(GPU_CONTAINERS, docker(INSPECT, 'echo "in $1"; [ "$1" != 2 ]'))
    assert found.containers == (
        GpuContainer("by runtime", 0, "in 4"),
        GpuContainer("cdi", 1, "in 2"),
        GpuContainer("device", 0, "in 5"),
        GpuContainer("with", 0, "in 1"),
    )


def test_megabytes_from_a_container_and_too_many_of_them_are_cut(on_host: Run) -> None:
    many = "".join(f'{n}|/c{n}|[["gpu"]] [] runtime=runc\n' for n in range(MOST_CONTAINERS + 5))
    flood = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo '|the end'"
    found = on_host(GPU_CONTAINERS, docker(many, flood))
    assert len(found.containers) == MOST_CONTAINERS
    assert found.left_out
    assert all(len(one.said) < 1600 and one.said.endswith("the end") for one in found.containers)


def test_a_docker_that_refuses_is_not_one_without_containers(on_host: Run) -> None:
    found = on_host(GPU_CONTAINERS, {"docker": "echo Cannot connect >&2; exit 1", "sudo": "exit 1"})
    assert isinstance(found, Unreadable)
    assert "lists no containers" in found.reason


DOCKERD = 'case " $* " in *" --validate "*) {} ;; esac'


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("exit 0", ""),
        ("echo 'unknown flag: --validate'; exit 125", ""),
        ("echo 'unable to configure: nonsense' >&2; exit 1", "unable to configure: nonsense"),
    ],
)
def test_dockerd_is_asked_about_its_settings(
    on_host: Run, tmp_path: Path, answer: str, complaint: str
) -> None:
    file = tmp_path / "daemon.json"
    file.write_text("{}")
    script = DOCKER_SETTINGS.script.replace("/etc/docker/daemon.json", str(file))
    probe = dataclasses.replace(DOCKER_SETTINGS, script=script)
    assert on_host(probe, {"dockerd": DOCKERD.format(answer)}).complaint == complaint


def access_programs(groups: str, session: str) -> dict[str, str]:
    return {
        "docker": "exit 0",
        "dockerd": "exit 0",
        "getent": "echo docker:x:998:lab",
        "systemctl": "echo 0",
        "id": f'case "$1:$2" in -G:) echo {session} ;; -G:*) echo {groups} ;; *) echo lab ;; esac',
    }


@pytest.mark.parametrize(
    ("groups", "session", "member", "has"),
    [("1000 998", "1000 998", True, True), ("1000 998", "1000", True, False)],
)
def test_who_may_use_docker(
    on_host: Run, groups: str, session: str, member: bool, has: bool
) -> None:
    found = on_host(DOCKER_ACCESS, access_programs(groups, session))
    assert (found.member, found.session, found.manager) == (member, has, None)


def test_who_is_outside_the_docker_group(on_host: Run) -> None:
    assert not on_host(DOCKER_ACCESS, access_programs("1000 9980", "1000 9980")).member


def test_places_are_measured_where_they_are_or_would_be(on_host: Run, tmp_path: Path) -> None:
    found = on_host(STORAGE, DISKS, f"{tmp_path}/not/there yet")
    state = next(place for place in found.places if place.what == "rigup's state")
    assert state.path == f"{tmp_path}/not/there yet"
    measured = os.statvfs(tmp_path)
    assert state.total_bytes == measured.f_frsize * measured.f_blocks
    assert os.path.ismount(state.mount)
    assert found.silent == ()


DISKS = {name: f'exec {shutil.which(name)} "$@"' for name in ("df", "stat", "dirname")}
DISKS["getent"] = "echo lab:x:1000:1000::/tmp:/bin/sh"


def test_a_file_system_that_does_not_answer_is_named(on_host: Run, tmp_path: Path) -> None:
    """The stand-in for timeout gives up at once, where a real one waits its seconds."""
    impatient = f'case "$*" in *{tmp_path}*) exit 124 ;; esac; shift; exec "$@"'
    found = on_host(STORAGE, {**DISKS, "timeout": impatient}, str(tmp_path))
    assert ("rigup's state", str(tmp_path)) in found.silent
    assert found.places


def test_an_agent_file_that_is_not_what_its_name_says(on_host: Run, tmp_path: Path) -> None:
    agents = tmp_path / "state" / "agent"
    agents.mkdir(parents=True)
    whole, cut = hashlib.sha256(b"agent").hexdigest(), "0" * 64
    (agents / f"{whole}.pyz").write_bytes(b"agent")
    (agents / f"{cut}.pyz").write_bytes(b"age")
    programs = {
        "getent": "echo lab:x:1000:1000::/home/lab:/bin/sh",
        "stat": "echo nobody",
        "sha256sum": f'exec {shutil.which("sha256sum")} "$@"',
    }
    found = on_host(AGENT_FILES, programs, str(tmp_path / "state"))
    assert (found.damaged, found.foreign) == ((cut,), "nobody")
