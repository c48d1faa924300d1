"""The process that gets the image of a queued job. Docker is simulated, and so is time."""

from __future__ import annotations

import fcntl
import hashlib
import os

import pytest

from remote_agent.arrival import SILENCE_S
from remote_agent.docker_client import LOOK_S, NO_PROGRAM, Answer
from remote_agent.files import locked
from remote_agent.host_images import AWAY_PAUSES_S, PULL_PAUSES_S, HostImages
from remote_agent.image_preparation import ImagePreparation, prepare
from remote_agent.layout import Layout
from remote_agent.protocol.job import CONTAINER, FAILED, QUEUED, STOPPED, ImagePlan, JobSpec
from remote_agent.queued_job import NOTE_S, QueuedJob
from remote_agent.store import JobStore

IMAGE, BASE, MIRROR = "rigup/pytorch:1", "pytorch/pytorch:2.9", "mirror.lab/pytorch:2.9"
CONTEXT = b"a tar archive"
DIGEST = hashlib.sha256(CONTEXT).hexdigest()
OK = Answer(0, ("sha256:abc",))
ABSENT = Answer(1, ("[]", "Error response from daemon: No such image: x"))
AWAY = Answer(1, ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.",))
UNKNOWN = Answer(1, ("Error response from daemon: manifest for x not found: manifest unknown",))
FULL = Answer(1, ("write /var/lib/docker/tmp/x: no space left on device",))
RESET = Answer(1, ("Error response from daemon: Get https://x: connection reset by peer",))


class Docker:
    """``there``: the images. ``during``: called while a pull or a build runs, with how to report a
    line and how to have the caller look."""

    def __init__(self):
        self.there, self.labels, self.calls = set(), {}, []
        self.warnings = ()
        self.answers, self.envs, self.inputs, self.limits = {}, [], [], {}
        self.during = lambda take, look: None

    def run(self, words, timeout_s, look, take, stdin=None, env=None):
        look()
        self.calls.append(" ".join(words))
        self.envs.append(env)
        self.limits[words[0]] = timeout_s
        queued = self.answers.get(words[0])
        if queued:
            return queued.pop(0) if len(queued) > 1 else queued[0]
        if words[:2] == ("image", "inspect"):
            if words[-1] not in self.there:
                return ABSENT
            if "Labels" not in words[3]:
                return OK
            label = words[3].partition("{{")[0] + self.labels.get(words[-1], "")
            return Answer(0, (*self.warnings, label, ""))
        if words[0] in ("pull", "build"):
            self.during(take, look)
            if stdin is not None:
                self.inputs.append(os.read(stdin, 1000))
            self.there.add(words[1] if words[0] == "pull" else words[words.index("--tag") + 1])
        if words[0] == "tag":
            self.there.add(words[2])
        return OK


class Host:
    def __init__(self, directory):
        self.now = 0.0
        self.docker = Docker()
        self.store = JobStore(Layout.open(str(directory / "state")))
        self.noted = []
        self.on_sleep = lambda: None

    def sleep(self, seconds):
        assert seconds == LOOK_S
        self.now += seconds
        self.on_sleep()
        said = self.store.record("job-a").waiting_for
        if said and said not in self.noted[-1:]:
            self.noted.append(said)

    def submit(self, job_id="job-a", **plan):
        spec = JobSpec(
            job_id, job_id, ("true",), runtime=CONTAINER, image=IMAGE, image_plan=ImagePlan(**plan)
        )
        self.store.create(spec, "boot")

    def prepare(self, job_id="job-a"):
        job = QueuedJob(self.store, job_id, lambda: self.now, self.sleep)
        ImagePreparation(self.store, job, HostImages(job, self.docker.run)).run()
        return self.store.record(job_id)

    @property
    def is_ready(self):
        return self.store.image_is_ready(self.store.record("job-a"))

    def put_context(self, data=CONTEXT):
        path = self.store.layout.blob(DIGEST)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_an_image_that_is_there_already_needs_nothing(host):
    host.docker.there = {IMAGE}
    host.submit(pull=MIRROR, base=BASE, build=DIGEST)
    assert not host.is_ready
    assert host.prepare().state == QUEUED
    assert host.is_ready
    assert host.docker.calls == [f"image inspect --format {{{{.Id}}}} {IMAGE}"]


def test_a_pulled_image_gets_the_name_that_the_job_uses(host):
    host.submit(pull=MIRROR)
    host.prepare()
    assert host.docker.calls[-2:] == [f"pull {MIRROR}", f"tag {MIRROR} {IMAGE}"]
    assert host.is_ready


def test_the_job_tells_how_far_the_pull_is(host):
    def during(take, look):
        for line in ("4f4fb700ef54: Already exists", "d1a5a1e51f25: Pulling fs layer"):
            take(line)
        host.now += NOTE_S
        look()
        host.noted.append(host.store.record("job-a").waiting_for)

    host.docker.during = during
    host.submit(pull=MIRROR)
    record = host.prepare()
    assert host.noted == [f"pulling 1 of 2 layers of {MIRROR}"]
    assert record.waiting_for == ""


def test_progress_is_not_written_all_the_time(host, monkeypatch):
    written, note = [], host.store.note_waiting
    monkeypatch.setattr(
        host.store, "note_waiting", lambda job, said: written.append(said) or note(job, said)
    )

    def during(take, look):
        for number in range(100):
            take(f"{number:012x}: Pull complete")
            host.now += 0.1
            look()

    host.docker.during = during
    host.submit(pull=IMAGE)
    host.prepare()
    assert 4 <= len(written) <= 10.0 / NOTE_S + 1


def test_every_call_of_docker_has_its_time_limit(host):
    host.put_context()
    host.submit(base=BASE, pull=MIRROR, build=DIGEST)
    host.prepare()
    hour = 3600.0
    assert host.docker.limits == {"image": 30.0, "pull": 6 * hour, "tag": 30.0, "build": 2 * hour}


def test_a_pull_that_takes_too_long_is_not_begun_again(host):
    def during(take, look):
        host.now += 7 * 3600.0

    def too_late(words, *others):
        answer = host.docker.run(words, *others)
        return Answer(124, ("docker pull did not end",)) if words[0] == "pull" else answer

    host.docker.during = during
    host.submit(pull=MIRROR)
    job = QueuedJob(host.store, "job-a", lambda: host.now, host.sleep)
    ImagePreparation(host.store, job, HostImages(job, too_late)).run()
    assert "did not end" in host.store.record("job-a").verdict.evidence
    assert host.docker.calls.count(f"pull {MIRROR}") == 1


def test_a_pull_that_broke_off_is_tried_again(host):
    host.docker.answers["pull"] = [RESET, RESET, OK]
    host.submit(pull=IMAGE)
    host.prepare()
    assert host.is_ready
    assert host.docker.calls.count(f"pull {IMAGE}") == 3
    assert host.now >= sum(PULL_PAUSES_S)
    assert any("connection reset by peer; again in 10 s" in said for said in host.noted)


def test_three_attempts_are_enough(host):
    host.docker.answers["pull"] = [RESET]
    host.submit(pull=IMAGE)
    record = host.prepare()
    assert (record.state, record.verdict.cause) == (FAILED, "could-not-start")
    assert f"{IMAGE} cannot be pulled" in record.verdict.evidence
    assert "connection reset by peer" in record.verdict.evidence
    assert f"docker pull {IMAGE}" in record.verdict.hint
    assert host.docker.calls.count(f"pull {IMAGE}") == 3


@pytest.mark.parametrize(
    ("answer", "evidence", "hint"),
    [
        (UNKNOWN, "manifest unknown", "check its name"),
        (Answer(1, ("Error response from daemon: pull access denied for x",)), "denied", "login"),
        (FULL, "no space left on device", "df -h"),
    ],
)
def test_what_the_next_attempt_would_meet_again_fails_at_once(host, answer, evidence, hint):
    host.docker.answers["pull"] = [answer]
    host.submit(pull=IMAGE)
    verdict = host.prepare().verdict
    assert evidence in verdict.evidence
    assert hint in verdict.hint
    assert host.docker.calls.count(f"pull {IMAGE}") == 1
    assert host.now == 0.0


def test_a_host_without_docker(host):
    host.docker.answers.update(image=[Answer(NO_PROGRAM, ("no docker",))])
    host.docker.answers.update(version=[Answer(NO_PROGRAM, ("no docker",))])
    host.submit(pull=IMAGE)
    verdict = host.prepare().verdict
    assert verdict.evidence == "Docker is not installed on the host"
    assert "rigup provision" in verdict.hint
    assert host.now == 0.0


def test_a_user_who_may_not_use_docker(host):
    denied = Answer(1, ("permission denied while trying to connect to the Docker daemon socket",))
    host.docker.answers.update(image=[denied], version=[denied])
    host.submit(pull=IMAGE)
    assert "may not talk to Docker" in host.prepare().verdict.evidence


def test_docker_may_still_be_starting(host):
    host.docker.answers.update(image=[AWAY, AWAY, OK], version=[AWAY])
    host.submit(pull=IMAGE)
    assert host.prepare().state == QUEUED
    assert host.is_ready
    assert any("Docker does not answer" in said for said in host.noted)


def test_a_docker_that_stays_away_fails_the_job(host):
    host.docker.answers.update(image=[AWAY], version=[AWAY])
    host.submit(pull=IMAGE)
    verdict = host.prepare().verdict
    assert "Cannot connect to the Docker daemon" in verdict.evidence
    assert "systemctl status docker" in verdict.hint
    assert sum(AWAY_PAUSES_S) <= host.now < 2 * sum(AWAY_PAUSES_S)


def test_an_image_is_built_on_its_base(host):
    host.put_context()
    host.docker.there = {BASE}
    host.submit(base=BASE, build=DIGEST, build_args={"HTTP_PROXY": "http://ann:s3cret@p", "A": "1"})
    host.prepare()
    assert host.is_ready
    build = f"build --force-rm --tag {IMAGE} --build-arg A --build-arg HTTP_PROXY -"
    prune = "image prune --force --filter label=rigup.stage=packages"
    assert host.docker.calls[-2:] == [build, prune]
    assert host.docker.envs[-2] == {"HTTP_PROXY": "http://ann:s3cret@p", "A": "1"}
    assert host.docker.inputs == [CONTEXT]
    assert "s3cret" not in " ".join(host.docker.calls)


@pytest.mark.parametrize("label", ["", "<no value>"])
def test_a_warning_of_dockers_client_is_no_label(host, label):
    warning = "WARNING: Error loading config file: /home/ann/.docker/config.json: denied"
    host.docker.there, host.docker.warnings = {BASE}, (warning,)
    host.docker.labels = {BASE: label}
    host.put_context()
    host.submit(base=BASE, build=DIGEST)
    host.prepare()
    assert [call.split()[0] for call in host.docker.calls][-2:] == ["build", "image"]


def test_a_base_that_was_made_for_ssh_is_not_built_upon(host):
    host.put_context()
    host.docker.there, host.docker.labels = {BASE}, {BASE: "1"}
    host.submit(base=BASE, build=DIGEST)
    host.prepare()
    assert host.docker.calls[-1] == f"tag {BASE} {IMAGE}"
    assert host.is_ready


def test_the_base_is_pulled_first(host):
    host.put_context()
    host.submit(base=BASE, pull=MIRROR, build=DIGEST)
    host.prepare()
    verbs = [call for call in host.docker.calls if not call.startswith("image")]
    assert [call.split()[0] for call in verbs] == ["pull", "tag", "build"]


def test_a_build_that_fails_tells_why_without_passwords(host):
    host.put_context()
    host.docker.there = {BASE}
    said = ("Could not connect to http://ann:s3cret@proxy", "returned a non-zero code: 1")
    host.docker.answers["build"] = [Answer(1, said)]
    host.submit(base=BASE, build=DIGEST, build_args={"HTTP_PROXY": "http://ann:s3cret@proxy"})
    verdict = host.prepare().verdict
    assert "returned a non-zero code: 1" in verdict.evidence
    assert "s3cret" not in str(verdict)
    assert "mirrors" in verdict.hint
    assert host.docker.calls[-1].startswith("image prune"), "also after a failure"


@pytest.mark.parametrize("data", [b"another archive", None])
def test_a_damaged_build_context_is_not_used_and_comes_anew(host, data):
    host.docker.there = {BASE}
    if data:
        host.put_context(data)
    host.submit(base=BASE, build=DIGEST)
    verdict = host.prepare().verdict
    assert "build context" in verdict.evidence
    assert not os.path.exists(host.store.layout.blob(DIGEST))
    assert not any(call.startswith("build") for call in host.docker.calls)


def test_a_base_that_has_gone(host):
    host.put_context()
    host.submit(base=BASE, build=DIGEST)
    assert f"{BASE} is not on the host any more" in host.prepare().verdict.evidence


def test_an_image_arrives_from_its_sender(host):
    path = host.store.layout.job("job-a").arriving

    def on_sleep():
        with open(path, "w") as file:
            file.write(str(int(host.now) << 20))
        if host.now > 30:
            host.docker.there.add(IMAGE)

    host.on_sleep = on_sleep
    host.submit(sender="ann@laptop", size=1830 << 20)
    host.prepare()
    assert host.is_ready
    assert host.noted[0] == f"receiving {IMAGE} from ann@laptop"
    assert f"receiving 20 of about 1,830 MiB of {IMAGE} from ann@laptop" in host.noted


def test_an_image_whose_bytes_are_all_there_is_unpacked(host):
    path = host.store.layout.job("job-a").arriving

    def on_sleep():
        with open(path, "w") as file:  # the receiver renews its time
            file.write(str(min(int(host.now), 10) << 20))
        if host.now > 30:
            host.docker.there.add(IMAGE)

    host.on_sleep = on_sleep
    host.submit(sender="ann@laptop", size=10 << 20)
    host.prepare()
    assert host.noted[-1] == f"unpacking {IMAGE}"
    assert f"receiving 10 of about 10 MiB of {IMAGE} from ann@laptop" in host.noted


def test_an_image_whose_sender_went_away(host):
    path = host.store.layout.job("job-a").arriving

    def on_sleep():
        if host.now < 20:
            with open(path, "w") as file:
                file.write(str(812 << 20))

    host.on_sleep = on_sleep
    host.submit(sender="ann@laptop", size=1830 << 20)
    record = host.prepare()
    assert (record.state, record.verdict.cause) == (FAILED, "could-not-start")
    assert "812 of about 1,830 MiB" in record.verdict.evidence
    assert "run it again" in record.verdict.hint
    assert SILENCE_S <= host.now < SILENCE_S + 40


def test_a_base_that_arrives_is_built_upon(host):
    host.put_context()
    host.on_sleep = lambda: host.docker.there.add(BASE)
    host.submit(base=BASE, sender="ann@laptop", build=DIGEST)
    host.prepare()
    assert host.is_ready
    assert any(call.startswith("build") for call in host.docker.calls)


def test_a_stop_ends_it_at_the_next_look(host):
    def during(take, look):
        host.store.transition("job-a", STOPPED)
        look()
        raise AssertionError("it went on")

    host.docker.during = during
    host.submit(pull=IMAGE)
    assert host.prepare().state == STOPPED


def test_a_request_to_stop_that_nobody_else_carries_out(host):
    host.submit(pull=IMAGE)
    with open(host.store.layout.job("job-a").stop, "w") as file:
        file.write("")
    record = host.prepare()
    assert (record.state, record.verdict.cause) == (STOPPED, "stopped-by-user")


def test_a_job_that_is_removed_ends_it_too(host):
    def during(take, look):
        host.store.transition("job-a", STOPPED)
        host.store.remove("job-a")
        look()

    host.docker.during = during
    host.submit(pull=IMAGE)
    job = QueuedJob(host.store, "job-a")
    ImagePreparation(host.store, job, HostImages(job, host.docker.run)).run()


def test_of_two_jobs_with_one_image_one_pulls_and_the_other_says_so(host):
    host.submit(pull=IMAGE)
    lock = host.store.layout.image_lock(IMAGE)
    other = os.open(lock, os.O_WRONLY | os.O_CREAT, 0o600)
    fcntl.flock(other, fcntl.LOCK_EX)
    os.write(other, b"job-b")

    def on_sleep():
        if host.now > 5 and IMAGE not in host.docker.there:
            host.docker.there.add(IMAGE)
            os.close(other)

    host.on_sleep = on_sleep
    host.prepare()
    assert host.is_ready
    assert host.noted == [f"{IMAGE}, which job-b prepares"]
    assert not any(call.startswith("pull") for call in host.docker.calls)


def test_a_disk_without_room_for_the_state_is_tried_again_later(host, monkeypatch):
    def fail(job_id):
        raise OSError(28, "No space left on device")

    host.docker.there = {IMAGE}
    host.submit(pull=IMAGE)
    monkeypatch.setattr(host.store, "note_image_ready", fail)
    assert host.prepare().state == QUEUED


def test_what_breaks_it_is_the_verdict(host, monkeypatch):
    def fail(*others):
        raise RuntimeError("broken")

    host.submit(pull=IMAGE)
    monkeypatch.setattr(host.docker, "run", fail)
    assert "RuntimeError: broken" in host.prepare().verdict.evidence


def test_a_second_process_for_the_same_job_ends_at_once(host, monkeypatch):
    host.submit(pull=IMAGE)
    monkeypatch.setattr("remote_agent.image_preparation.LOCK_LIMIT_S", 0.0)
    monkeypatch.setattr("remote_agent.image_preparation.ImagePreparation", None)
    with locked(host.store.layout.job("job-a").preparer_lock):
        prepare(host.store.layout, "job-a")
