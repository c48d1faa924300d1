"""``prepare``: the process that gets the image of a queued job, as its plan says.

One per job, held by a lock in the job's directory. The dispatcher starts it, and starts it again
after a kill or a reboot: every step looks first whether it was done. Of several jobs that need the
same image one pulls or builds it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Callable, Dict

from remote_agent.arrival import Arrival
from remote_agent.docker_client import LOOK_S
from remote_agent.faults import AgentFault, CouldNotStart, complain, complain_of_exception
from remote_agent.files import try_lock
from remote_agent.host_images import HostImages
from remote_agent.image_progress import receiving, shown, unpacking
from remote_agent.layout import Layout
from remote_agent.protocol.job import FAILED, JOB_ID
from remote_agent.queued_job import QueuedJob, Stopped
from remote_agent.sha import sha256
from remote_agent.store import JobStore
from remote_agent.verdict import could_not_start
from remote_agent.wakeup import wake_dispatcher

ARRIVAL_LOOK_S = 2.0
UNPACKING_S = 5.0
"""An image that has all its bytes, and for so long got no more, is being unpacked."""
SHARED_LOOK_S = 1.0
LOCK_LIMIT_S = 2.0
"""The dispatcher looks at the lock by taking it for a moment."""
CHUNK = 1 << 20


def prepare(layout: Layout, job_id: str) -> None:
    """Returns at once when another process does it."""
    deadline = time.monotonic() + LOCK_LIMIT_S
    while True:
        with try_lock(layout.job(job_id).preparer_lock) as held:
            if held:
                store = JobStore(layout)
                job = QueuedJob(store, job_id)
                ImagePreparation(store, job, HostImages(job)).run()
                break
        if time.monotonic() >= deadline:
            return
        time.sleep(LOOK_S / 10)
    wake_dispatcher(layout)


class ImagePreparation:
    def __init__(self, store: JobStore, job: QueuedJob, images: HostImages) -> None:
        self._store = store
        self._job = job
        self._images = images

    def run(self) -> None:
        """What cannot be written is tried again by the next process like this one."""
        try:
            self._prepare()
            self._store.note_image_ready(self._job.job_id)
        except Stopped:
            return
        except CouldNotStart as problem:
            self._fail(problem)
        except (AgentFault, OSError) as error:
            complain("the image of %s: %s" % (self._job.job_id, error))
        except Exception as error:
            complain_of_exception()
            said = "its image could not be prepared: %s: %s" % (type(error).__name__, error)
            self._fail(CouldNotStart(said, "see preparer.err in the job's directory on the host"))

    def _prepare(self) -> None:
        spec = self._store.record(self._job.job_id).spec
        plan, image = spec.image_plan, spec.image
        if plan is None or not image or self._images.has(image):
            return
        base = plan.base or image
        if plan.pull:
            source = plan.pull
            self._once(base, lambda: self._images.pull(source, base))
        elif plan.sender:
            self._receive(base, plan.sender, plan.size)
        elif not self._images.has(base):
            said = "%s is not on the host any more" % shown(base)
            raise CouldNotStart(said, "run it again: what is missing then comes again")
        if plan.build:
            digest, arguments = plan.build, plan.build_args
            self._once(image, lambda: self._build(base, image, digest, arguments))
        elif base != image:
            self._images.tag(base, image)

    def _once(self, image: str, get: Callable[[], None]) -> None:
        """Unless it is there already. Of all jobs one gets it, the others wait for that."""
        path = self._store.layout.image_lock(image)
        while True:
            with try_lock(path) as held:
                if held:
                    _write_holder(path, self._job.job_id)
                    if not self._images.has(image):
                        get()
                    return
            holder = _read_holder(path)
            said = "%s, which %s prepares" % (shown(image), holder or "another job")
            self._job.pause(SHARED_LOOK_S, said)

    def _receive(self, base: str, sender: str, size: int) -> None:
        arrival = Arrival(self._store.layout.job(self._job.job_id).arriving, self._job.clock)
        while not self._images.has(base):
            arrival.look()
            said = receiving(base, sender, arrival.arrived, size)
            if 0 < size <= arrival.arrived and arrival.still_s >= UNPACKING_S:
                said = unpacking(base)
            if arrival.has_ended:
                raise CouldNotStart(
                    "the image did not arrive: nothing was heard of its sender any more (%s)"
                    % said,
                    "run it again, and leave the sending machine connected until the image is here",
                )
            self._job.pause(ARRIVAL_LOOK_S, said)

    def _build(self, base: str, image: str, digest: str, arguments: Dict[str, str]) -> None:
        if self._images.is_made_for_ssh(base):
            self._images.tag(base, image)
            return
        context = self._open_context(digest)
        try:
            self._images.build(image, context, arguments)
        finally:
            os.close(context)

    def _open_context(self, digest: str) -> int:
        """Every byte is verified; a damaged one is deleted, so that it is sent anew."""
        path = self._store.layout.blob(digest)
        again = "run it again: it is then sent anew"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise CouldNotStart("the build context of its image is gone", again) from None
        actual = sha256()
        for chunk in iter(lambda: os.read(fd, CHUNK), b""):
            actual.update(chunk)
        if actual.hexdigest() != digest:
            os.close(fd)
            os.unlink(path)
            raise CouldNotStart("the stored build context of its image is damaged", again)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def _fail(self, problem: CouldNotStart) -> None:
        self._job.conclude(FAILED, could_not_start(problem.evidence, problem.hint))


def _write_holder(path: str, job_id: str) -> None:
    """For people: where the disk is full, the lock holds all the same."""
    with suppress(OSError), open(path, "w", encoding="ascii") as file:
        file.write(job_id)


def _read_holder(path: str) -> str:
    with open(path, "rb") as file:
        text = file.read(64).decode("ascii", "replace")
    return text if JOB_ID.match(text) else ""
