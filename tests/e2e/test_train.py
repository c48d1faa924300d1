"""Detached training through everything that can happen to the client and the link."""

from __future__ import annotations

import hashlib
import signal
import time
from pathlib import Path

import pytest
from lab_program import Rigup, wait_for

pytestmark = pytest.mark.e2e

PROCESS = ("--runtime", "process", "--gpus", "0")

CHATTY = """\
import sys, time
for step in range(int(sys.argv[1])):
    sys.stdout.buffer.write(b"step %d \\xff\\r" % step)
    if step % 10 == 0:
        sys.stdout.buffer.write(b"line %d\\n" % step)
    sys.stdout.buffer.flush()
    time.sleep(0.05)
"""

FAMILY = """\
import os, subprocess, sys, time
subprocess.Popen(["sleep", "4711"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "4712"])
    os._exit(0)
print("up", flush=True)
time.sleep(4713)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "chatty.py").write_text(CHATTY)
    (tmp_path / "family.py").write_text(FAMILY)
    (tmp_path / "nospace.py").write_text("raise OSError(28, 'No space left on device')\n")
    (tmp_path / "outputs.py").write_text(
        "import os, pathlib\n"
        "target = pathlib.Path(os.environ['RIGUP_OUTPUT_DIR'])\n"
        "(target / 'deep').mkdir()\n"
        "(target / 'deep' / 'model.bin').write_bytes(bytes(range(256)) * 20000)\n"
        "(target / 'link').symlink_to('/etc/passwd')\n"
    )
    return tmp_path


def start(rigup: Rigup, project: Path, script: str, *words: str) -> str:
    done = rigup.ok("train", "--script", script, "--host", "lab01", *words, cwd=project)
    return done.out.strip()


def state(rigup: Rigup, job: str) -> str:
    found = rigup.ok("describe", job, "--json").json
    return str(found["job"]["state"])


def test_the_example_trains_in_the_container(with_container: Rigup, tmp_path: Path) -> None:
    words = ("train", "--script", "finetune_llama.py", "--host", "lab01")
    done = with_container.ok(*words, "--", "--max_steps", "8", cwd=tmp_path)
    assert done.seconds < 15
    job = done.out.strip()
    followed = with_container.ok("logs", job, "--follow", timeout=300)
    assert "step 8/8" in followed.out
    described = with_container.ok("describe", job, "--json").json["job"]
    assert described["state"] == "succeeded"
    assert described["spec"]["runtime"] == "container"
    assert len(described["gpu_ids"]) == 1
    with_container.ok("pull", job, "--to", str(tmp_path / "out"))
    assert list((tmp_path / "out").glob("checkpoint-8/*"))
    assert list((tmp_path / "out").glob("final/adapter_model*"))


def test_client_killed_and_link_cut_lose_no_byte(
    provisioned: Rigup, shell, project: Path, tmp_path: Path
) -> None:
    job = start(provisioned, project, "chatty.py", *PROCESS, "--", "900")
    log = tmp_path / "followed"
    with log.open("wb") as sink:
        first = provisioned.start("logs", job, "--follow", stdout=sink)
        wait_for(lambda: log.stat().st_size > 200, "the first bytes")
        first.send_signal(signal.SIGKILL)
        first.wait()
    with log.open("wb") as sink:
        follower = provisioned.start("logs", job, "--follow", stdout=sink)
        wait_for(lambda: log.stat().st_size > 200, "the first bytes again")
        shell("lab01").run("iptables -I INPUT -p tcp --dport 22 -j DROP")
        time.sleep(30)
        shell("lab01").run("iptables -D INPUT -p tcp --dport 22 -j DROP")
        assert follower.wait(timeout=240) == 0
    assert state(provisioned, job) == "succeeded"
    on_host = shell("lab01").run(f"cat /home/lab/.rigup/jobs/{job}/log")
    assert log.read_bytes() == on_host.encode(errors="surrogateescape")
    assert on_host.count("\r") == 900


def test_stop_leaves_no_process_behind(provisioned: Rigup, shell, project: Path) -> None:
    job = start(provisioned, project, "family.py", *PROCESS)
    host = shell("lab01")
    wait_for(lambda: "4712" in host.run("ps ax -o args"), "the job's grandchildren")
    done = provisioned.ok("stop", job, "--grace", "2")
    assert "stopped" in done.out
    left = host.run("ps ax -o args | grep -E 'sleep 471|family.py' | grep -v grep", check=False)
    assert left == ""
    verdict = provisioned.ok("describe", job, "--json").json["job"]["verdict"]
    assert verdict["cause"] == "stopped-by-user"


def test_the_verdict_names_the_cause(provisioned: Rigup, project: Path) -> None:
    words = ("train", "--script", "nospace.py", "--host", "lab01", *PROCESS, "--follow")
    done = provisioned(*words, cwd=project)
    assert done.code == 1
    assert "disk-full" in done.err
    assert "try:" in done.err


def test_editing_after_train_never_changes_a_job(provisioned: Rigup, project: Path) -> None:
    (project / "slow.py").write_text("import time; time.sleep(2); import part; print(part.WORD)\n")
    (project / "part.py").write_text("WORD = 'frozen'\n")
    job = start(provisioned, project, "slow.py", *PROCESS)
    (project / "part.py").write_text("WORD = 'edited'\n")
    assert provisioned.ok("logs", job, "--follow").out == "frozen\n"


def test_pull_is_resumable_and_stays_in_its_directory(
    provisioned: Rigup, project: Path, tmp_path: Path
) -> None:
    job = start(provisioned, project, "outputs.py", *PROCESS)
    provisioned.ok("logs", job, "--follow")
    target = tmp_path / "pulled"
    first = provisioned("pull", job, "--to", str(target))
    assert (first.code, "not pulled: link: a symlink that leads outside" in first.err) == (1, True)
    model = target / "deep" / "model.bin"
    assert model.read_bytes() == bytes(range(256)) * 20000
    assert not (target / "link").exists()
    again = provisioned("pull", job, "--to", str(target))
    assert again.code == 1
    assert "model.bin" not in again.err


def test_a_pull_goes_on_after_its_connections_were_killed(
    provisioned: Rigup, shell, project: Path, tmp_path: Path
) -> None:
    (project / "large.py").write_text(
        "import os\n"
        "with open(os.environ['RIGUP_OUTPUT_DIR'] + '/large', 'wb') as file:\n"
        "    for _ in range(256):\n"
        "        file.write(os.urandom(1 << 20))\n"
    )
    job = start(provisioned, project, "large.py", *PROCESS)
    provisioned.ok("logs", job, "--follow")
    target = tmp_path / "pulled"
    puller = provisioned.start("pull", job, "--to", str(target))
    for megabytes in (20, 90):
        wait_for(lambda size=megabytes: pulled_bytes(target) > size << 20, "a part of the file")
        shell("lab01").run("pkill -KILL -u lab -f 'sshd: lab' || pkill -KILL -u lab sshd")
    assert puller.wait(timeout=240) == 0
    on_host = shell("lab01").run(f"sha256sum /home/lab/.rigup/jobs/{job}/outputs/large")
    assert hashlib.sha256((target / "large").read_bytes()).hexdigest() == on_host.split()[0]


def pulled_bytes(target: Path) -> int:
    return sum(path.stat().st_size for path in target.glob(".*.rigup-part"))


def test_gpu_jobs_wait_for_their_lease(provisioned: Rigup, project: Path) -> None:
    two = ("--runtime", "process", "--gpus", "2")
    first = start(provisioned, project, "chatty.py", *two, "--", "200")
    second = start(provisioned, project, "chatty.py", *two, "--", "1")
    wait_for(lambda: state(provisioned, first) == "running", "the first job")
    assert state(provisioned, second) == "queued"
    provisioned.ok("stop", first, "--grace", "1")
    provisioned.ok("logs", second, "--follow", timeout=60)
    assert state(provisioned, second) == "succeeded"


def test_a_reboot_loses_the_running_job_by_name_and_starts_the_queued_one(
    provisioned: Rigup, shell, project: Path
) -> None:
    words = ("--host", "lab02", "--runtime", "process", "--gpus", "2")

    def start_on_lab02(*arguments: str) -> str:
        script = ("train", "--script", "chatty.py", *words)
        return provisioned.ok(*script, "--", *arguments, cwd=project).out.strip()

    running, queued = start_on_lab02("9000"), start_on_lab02("3")
    wait_for(lambda: state(provisioned, running) == "running", "the first job")
    host = shell("lab02")
    host.run("systemctl reboot", check=False)

    def ended_by_itself() -> bool:
        return "succeeded" in host.run(
            f"cat /home/lab/.rigup/jobs/{queued}/state.json", check=False
        )

    wait_for(ended_by_itself, "the queued job to start without any contact", seconds=90)
    lost = provisioned.ok("describe", running, "--json").json["job"]
    assert (lost["state"], lost["verdict"]["cause"]) == ("lost", "reboot")
