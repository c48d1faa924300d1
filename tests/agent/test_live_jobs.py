"""Jobs under a real agent with real processes, on every Python that is at hand."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provisioner.errors import AgentError, ConnectionLost
from remote_agent.protocol.job import JobSpec

TESTS = Path(__file__).parent
SERIAL = itertools.count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test here once per interpreter that conftest finds."""
    if "python" in metafunc.fixturenames:
        conftest = metafunc.config.pluginmanager.get_plugin(str(TESTS / "conftest.py"))
        found = conftest.pythons()
        names = ["current", "python3.8"][: len(found)]
        metafunc.parametrize("python", found, ids=names)


def marked_processes(job_id: str) -> list[int]:
    mark = f"RIGUP_JOB_ID={job_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def test_a_job_runs_to_its_end_and_says_so(agent, shell, finished):
    assert agent.submit(shell("job-ok", "echo hello; echo oops >&2")).state == "queued"
    record = finished(agent, "job-ok")
    assert (record.state, record.verdict.cause) == ("succeeded", "success")
    assert agent.read_log("job-ok", 0).data == b"hello\noops\n"
    assert record.started_at <= record.ended_at


def test_environment_and_places(agent, shell, finished, bench):
    script = (
        'echo "$RIGUP_JOB_ID|$RIGUP_OUTPUT_DIR|$RIGUP_GPUS|${CUDA_VISIBLE_DEVICES-unset}'
        '|$PYTHONUNBUFFERED|$MINE|${SSH_CONNECTION-gone}"; pwd; echo x > outputs/model.bin; umask'
    )
    bench.env["SSH_CONNECTION"] = "1.2.3.4 5 6.7.8.9 22"
    client = bench.connect()
    client.submit(shell("job-env", script, env={"MINE": "a\nb", "CUDA_VISIBLE_DEVICES": "7"}))
    finished(client, "job-env")
    root = bench.job_dir("job-env")
    expected = f"job-env|{root}/outputs|||1|a\nb|gone\n{root}/work\n{login_umask()}\n"
    assert client.read_log("job-env", 0).data.decode() == expected
    assert (root / "outputs/model.bin").read_text() == "x\n"
    assert (root / "spec.json").stat().st_mode & 0o777 == 0o600
    assert bench.state_dir.stat().st_mode & 0o777 == 0o700


def login_umask() -> str:
    mask = os.umask(0)
    os.umask(mask)
    return f"{mask:04o}"


def test_failure_carries_code_and_last_exception(agent, finished, python):
    code = "def f(): raise ValueError('bad batch')\nf()"
    agent.submit(JobSpec("job-bad", "bad", (python, "-c", code)))
    verdict = finished(agent, "job-bad").verdict
    assert (verdict.cause, verdict.exit_code) == ("exit-code", 1)
    assert verdict.evidence == "ValueError: bad batch"


def test_missing_program_is_named(agent, finished):
    agent.submit(JobSpec("job-none", "none", ("no-such-trainer", "--lr", "1")))
    record = finished(agent, "job-none")
    assert (record.state, record.verdict.cause) == ("failed", "could-not-start")
    assert "no-such-trainer" in record.verdict.evidence
    assert "PATH=" in record.verdict.hint


def test_jobs_survive_the_death_of_the_connection(bench, shell, until, finished, tmp_path):
    gate = tmp_path / "gate"
    client = bench.connect()
    client.submit(shell("job-live", f"while [ ! -e {gate} ]; do sleep 0.02; done; echo survived"))
    until(lambda: client.job("job-live").state == "running")
    os.kill(bench.sessions[0].process.pid, signal.SIGKILL)
    with pytest.raises(ConnectionLost):
        client.jobs()
    again = bench.connect()
    assert again.job("job-live").state == "running"
    gate.touch()
    assert finished(again, "job-live").state == "succeeded"
    assert again.read_log("job-live", 0).data == b"survived\n"


def test_stop_leaves_no_process_behind(agent, shell, until):
    hidden = f"1001.{os.getpid()}{next(SERIAL)}"  # of no environment, session or parent of ours
    script = f"""
trap '' TERM
(setsid sh -c 'trap "" TERM; (setsid sleep 1000 &) ; sleep 1000' &)
env -i /bin/sh -c '/usr/bin/setsid /bin/sleep {hidden} &'
sleep 1000 & echo ready; wait; wait
"""
    agent.submit(shell("job-tree", script))
    until(lambda: agent.read_log("job-tree", 0).data == b"ready\n")
    until(lambda: len(marked_processes("job-tree")) >= 4)
    record = agent.stop("job-tree", grace_s=0.3)
    assert (record.state, record.verdict.cause) == ("stopped", "stopped-by-user")
    assert marked_processes("job-tree") == []
    assert not any(hidden.encode() in command for command in sleepers())


def sleepers() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"sleep\0" in command:
            found.append(command)
    return found


def test_stop_lets_a_polite_job_save_its_work(agent, shell, until):
    script = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    agent.submit(shell("job-polite", script))
    until(lambda: b"ready" in agent.read_log("job-polite", 0).data)
    record = agent.stop("job-polite", grace_s=15)
    assert record.state == "stopped"
    assert agent.read_log("job-polite", 0).data.endswith(b"saved\n")
    assert agent.stop("job-polite").state == "stopped"


def test_what_the_main_process_leaves_running_is_ended(agent, shell, finished):
    agent.submit(shell("job-daemon", "(setsid sleep 1000 &) ; sleep 0.05"))
    assert finished(agent, "job-daemon").state == "succeeded"
    assert marked_processes("job-daemon") == []


def test_log_is_byte_exact_across_reconnects(bench, until, python):
    """A chatty writer of \\r, binary and invalid UTF-8, read through dying connections."""
    code = (
        "import os, hashlib\n"
        "h = hashlib.sha256()\n"
        "for i in range(3000):\n"
        "    line = b'\\r%5d%%|\\xff\\xfe\\x00' % i + bytes(range(256)) * (i % 3) + b'\\n'\n"
        "    h.update(line); os.write(1, line)\n"
        "open('outputs/sum', 'w').write(h.hexdigest())\n"
    )
    import hashlib

    client = bench.connect()
    client.submit(JobSpec("job-chatty", "chatty", (python, "-c", code)))
    seen, read = hashlib.sha256(), 0
    for turn in range(1000):
        chunk = client.read_log("job-chatty", read, limit=9973, wait_s=5.0)
        assert chunk.offset == read
        seen.update(chunk.data)
        read = chunk.next_offset
        if chunk.is_last:
            break
        if turn % 25 == 24:
            bench.sessions[-1].process.kill()
            client = bench.connect()
    assert chunk.is_last
    assert client.read_output("job-chatty", "sum").data.decode() == seen.hexdigest()


def test_long_poll_answers_as_soon_as_there_is_something(agent, shell, tmp_path, until):
    gate = tmp_path / "gate"
    agent.submit(shell("job-poll", f"while [ ! -e {gate} ]; do sleep 0.02; done; printf late"))
    until(lambda: agent.job("job-poll").state == "running")
    answers = []
    waiter = threading.Thread(
        target=lambda: answers.append(agent.read_log("job-poll", 0, wait_s=30))
    )
    waiter.start()
    assert agent.jobs()[0].job_id == "job-poll", "others are answered while one waits"
    assert not answers
    gate.touch()
    waiter.join(15)
    assert answers[0].data == b"late"


def test_log_from_the_end(agent, shell, finished):
    agent.submit(shell("job-tail", "printf 0123456789"))
    finished(agent, "job-tail")
    assert agent.read_log("job-tail", -3).data == b"789"
    assert agent.read_log("job-tail", -99).offset == 0
    empty = agent.read_log("job-tail", 10, wait_s=30)
    assert (empty.data, empty.is_last) == (b"", True)


def test_resubmission_is_idempotent(bench, shell, finished):
    spec = shell("job-once", "echo once")
    first, second = bench.connect(), bench.connect()
    with ThreadPoolExecutor(8) as pool:
        clients = [first, second] * 8
        records = list(pool.map(lambda client: client.submit(spec), clients))
    assert len({record.created_at for record in records}) == 1
    finished(first, "job-once")
    assert first.submit(spec).state == "succeeded"
    assert first.read_log("job-once", 0).data == b"once\n"
    with pytest.raises(AgentError, match="another spec") as caught:
        first.submit(shell("job-once", "echo twice"))
    assert caught.value.code == "job-exists"


def test_many_jobs_at_once(agent, shell, finished):
    ids = [f"job-{number:02}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job_id: agent.submit(shell(job_id, f"echo {job_id}")), ids))
    for job_id in ids:
        assert finished(agent, job_id).state == "succeeded"
        assert agent.read_log(job_id, 0).data.decode() == f"{job_id}\n"
    assert sorted(record.job_id for record in agent.jobs()) == ids


def test_a_killed_supervisor_is_replaced_and_the_job_goes_on(bench, shell, until, tmp_path):
    gate = tmp_path / "gate"
    client = bench.connect()
    client.submit(shell("job-orphan", f"while [ ! -e {gate} ]; do sleep 0.02; done; echo done"))
    until(lambda: client.job("job-orphan").state == "running")

    def supervisor() -> int:
        return json.loads((bench.job_dir("job-orphan") / "state.json").read_text())["supervisor"][
            "pid"
        ]

    first = supervisor()
    os.kill(first, signal.SIGKILL)
    until(lambda: client.job("job-orphan") and supervisor() != first, "a new supervisor")
    assert client.job("job-orphan").state == "running"
    gate.touch()
    until(lambda: client.job("job-orphan").is_final)
    record = client.job("job-orphan")
    assert (record.state, record.verdict.cause) == ("lost", "lost")
    assert "exit code is not known" in record.verdict.evidence
    assert client.read_log("job-orphan", 0).data == b"done\n"


def test_what_outlives_supervisor_and_program_is_ended_before_the_job_is_lost(bench, shell, until):
    client = bench.connect()
    client.submit(shell("job-rest", "setsid sleep 1000 & echo $!; sleep 1000"))
    until(lambda: client.read_log("job-rest", 0).data)
    until(lambda: client.job("job-rest").state == "running")
    told = json.loads((bench.job_dir("job-rest") / "state.json").read_text())
    os.kill(told["supervisor"]["pid"], signal.SIGKILL)
    os.kill(told["process"]["pid"], signal.SIGKILL)
    assert client.stop("job-rest", grace_s=5).is_final
    assert marked_processes("job-rest") == []


def test_a_reboot_is_told_as_such(bench, shell, finished):
    """The record of a job that ran under another boot id."""
    client = bench.connect()
    client.submit(shell("job-boot", "true"))
    finished(client, "job-boot")
    state = bench.job_dir("job-boot") / "state.json"
    told = json.loads(state.read_text())
    told.update(state="running", boot_id="00000000-before", verdict=None, ended_at=None)
    state.write_text(json.dumps(told))
    record = bench.connect().job("job-boot")  # no connection survives a reboot
    assert (record.state, record.verdict.cause) == ("lost", "reboot")


def test_remove_only_what_is_over(agent, shell, until):
    agent.submit(shell("job-gone", "sleep 1000"))
    until(lambda: agent.job("job-gone").state == "running")
    with pytest.raises(AgentError) as caught:
        agent.remove("job-gone")
    assert caught.value.code == "not-final"
    agent.stop("job-gone", grace_s=0)
    agent.remove("job-gone")
    with pytest.raises(AgentError) as caught:
        agent.job("job-gone")
    assert caught.value.code == "no-such-job"


def test_gpu_job_without_nvml_says_what_to_do(agent, shell, until):
    agent.submit(shell("job-gpu", "true", gpus=1))
    until(lambda: agent.job("job-gpu").waiting_for)
    said = agent.job("job-gpu").waiting_for
    assert "NVIDIA" in said
    assert "provision" in said
    assert agent.stop("job-gpu").state == "stopped"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"job_id": "../../etc"}, "not a job id"),
        ({"argv": ()}, "argv"),
        ({"runtime": "lambda"}, "unknown runtime"),
        ({"gpus": -1}, "gpus"),
        ({"runtime": "container"}, "image"),
        ({"env": {"A B": "x"}}, "A B"),
        ({"snapshot": "0" * 64}, "put it first"),
        ({"mounts": ("relative",)}, "mounts"),
    ],
)
def test_impossible_specs_are_refused(agent, change, said):
    good = {"job_id": "job-spec", "name": "spec", "argv": ("true",)}
    with pytest.raises(AgentError, match=said) as caught:
        agent.submit(JobSpec(**{**good, **change}))
    assert caught.value.code == "bad-spec"
    assert agent.jobs() == ()


def test_watch_tells_samples_and_job_changes(agent, shell, finished):
    with agent.watch(0.2) as watch:
        seen = [watch.next(10) for _ in range(2)]
        assert () in seen
        sample = next(update for update in seen if update != ())
        assert sample.host.memory_total > sample.host.memory_used > 0
        assert sample.gpus == ()
        assert sample.gpu_error
        agent.submit(shell("job-seen", "true"))
        for update in watch:
            if isinstance(update, tuple) and update and update[0].is_final:
                break
        agent.remove("job-seen")
        for update in watch:
            if update == ():
                break
    assert watch.next(1) is None


def test_a_broken_link_fails_every_waiting_call_at_once(bench, shell, until):
    client = bench.connect()
    client.submit(shell("job-wait", "sleep 1000"))
    errors: list[Exception] = []

    def wait() -> None:
        try:
            client.read_log("job-wait", 0, wait_s=60)
        except ConnectionLost as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(client._link._calls) == 4)
    watch = client.watch(60)
    bench.sessions[0].process.kill()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 4
    assert len({id(error) for error in errors}) == 4, "each caller gets its own exception"
    with pytest.raises(ConnectionLost):
        list(watch)


DAMAGE = ["", '{"state": "runn']


def state_of(bench, job_id):
    return json.loads((bench.job_dir(job_id) / "state.json").read_text())


@pytest.mark.parametrize("name", ["state.json", "spec.json"])
@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_job_that_nobody_supervises_is_shown_and_can_be_stopped(
    bench, shell, until, content, name
):
    bench.connect().submit(shell("job-hurt", "echo hello; sleep 1000"))
    client = bench.connect()
    until(lambda: client.job("job-hurt").state == "running")
    until(lambda: client.read_log("job-hurt", 0).data)
    os.kill(state_of(bench, "job-hurt")["supervisor"]["pid"], signal.SIGKILL)
    (bench.job_dir("job-hurt") / name).write_text(content)
    client = bench.connect()
    (record,) = client.jobs()
    assert (record.job_id, record.state, record.verdict.cause) == ("job-hurt", "damaged", "damaged")
    assert marked_processes("job-hurt"), "looking at it ends nothing"
    assert client.read_log("job-hurt", 0).data == b"hello\n"
    with pytest.raises(AgentError, match="damaged") as caught:
        client.read_log("job-hurt", 6, wait_s=30.0)
    assert caught.value.code == "damaged-job"
    stopped = client.stop("job-hurt", grace_s=1.0)
    assert (stopped.state, stopped.verdict.cause) == ("stopped", "stopped-by-user")
    assert marked_processes("job-hurt") == []
    assert (bench.job_dir("job-hurt") / f"{name}.damaged").read_text() == content
    client.remove("job-hurt")


def test_a_supervisor_repairs_the_records_of_its_job(bench, shell, until, finished, tmp_path):
    gate = tmp_path / "gate"
    client = bench.connect()
    client.submit(shell("job-hurt", f"while [ ! -e {gate} ]; do sleep 0.02; done; exit 4"))
    until(lambda: client.job("job-hurt").state == "running")
    before = state_of(bench, "job-hurt")
    (bench.job_dir("job-hurt") / "state.json").write_text("")
    (bench.job_dir("job-hurt") / "spec.json").write_text("")
    client = bench.connect()
    until(lambda: client.jobs()[0].state == "running", "the supervisor was asked to repair it")
    assert state_of(bench, "job-hurt") == before
    gate.touch()
    assert finished(client, "job-hurt").verdict.exit_code == 4


def test_a_damaged_job_of_which_nothing_runs_can_be_stopped_and_removed(
    bench, agent, shell, finished
):
    agent.submit(shell("job-hurt", "true"))
    finished(agent, "job-hurt")
    (bench.job_dir("job-hurt") / "state.json").write_text("")
    client = bench.connect()
    assert client.jobs()[0].state == "damaged"
    assert client.stop("job-hurt").state == "stopped"
    client.remove("job-hurt")
    assert client.jobs() == ()
