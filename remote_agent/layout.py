"""Where everything lies below the state directory.

::

    agent/<sha256>.pyz         the agent itself, one file per version
    jobs/<id>/spec.json        what was asked; 0600, never changes
    jobs/<id>/state.json       state, times, processes, GPUs and, once final, the verdict
    jobs/<id>/state.reserve    room for its next state on a full disk, until it is final
    jobs/<id>/stop.json        somebody asked to stop it
    jobs/<id>/arriving         "<bytes>" of its image that have arrived from its sender so far
    jobs/<id>/preparer.lock    held by the process that gets its image; preparer.err: its complaints
    jobs/<id>/log              stdout and stderr, byte for byte
    jobs/<id>/container.env    the environment of its container; there as long as that may be
    jobs/<id>/container.id     Docker's id of it, and container.err: what Docker's client said
    jobs/<id>/seen.json        its processes as last seen, where it has no cgroup
    jobs/<id>/supervisor.err   what the supervisor itself complained about
    jobs/<id>/outputs/ work/ home/
    blobs/ab/<sha256>          file contents of code snapshots; blobs/partial/ while uploading
    manifests/<sha256>         listings of code snapshots
    sweep.<machine>.lock       held by the one that removes left containers
    dispatcher.<machine>.lock  held by the one dispatcher
    dispatcher.<machine>.wake  FIFO: a byte in it means that the queue or the GPUs changed
    submit.lock                held while a job gets its place in the queue
    image.<machine>.<hash>.lock  held while an image is pulled or built; in it, for which job
"""

from __future__ import annotations

import hashlib
import os

from remote_agent.files import make_private
from remote_agent.processes import machine_id

DEFAULT_STATE_DIR = "~/.rigup"


class Layout:
    def __init__(self, root: str) -> None:
        self.root = root
        self.jobs = os.path.join(root, "jobs")
        self.blobs = os.path.join(root, "blobs")
        self.partial = os.path.join(root, "blobs", "partial")
        self.manifests = os.path.join(root, "manifests")
        self.sweep_lock = os.path.join(root, "sweep.%s.lock" % machine_id()[:12])
        self.dispatcher_lock = os.path.join(root, "dispatcher.%s.lock" % machine_id()[:12])
        self.dispatcher_wake = os.path.join(root, "dispatcher.%s.wake" % machine_id()[:12])
        self.submit_lock = os.path.join(root, "submit.lock")

    @classmethod
    def open(cls, state_dir: str) -> Layout:
        """The layout at ``state_dir`` (relative: from the home directory), created if needed."""
        home = os.path.expanduser("~")
        layout = cls(os.path.normpath(os.path.join(home, os.path.expanduser(state_dir))))
        for path in (layout.root, layout.jobs, layout.partial, layout.manifests):
            make_private(path)
        return layout

    def image_lock(self, reference: str) -> str:
        """References may be longer than a file's name can be."""
        name = hashlib.sha256(reference.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return os.path.join(self.root, "image.%s.%s.lock" % (machine_id()[:12], name))

    def job(self, job_id: str) -> JobPaths:
        return JobPaths(os.path.join(self.jobs, job_id))

    def blob(self, digest: str) -> str:
        return os.path.join(self.blobs, digest[:2], digest)

    def partial_blob(self, digest: str) -> str:
        return os.path.join(self.partial, digest)

    def manifest(self, digest: str) -> str:
        return os.path.join(self.manifests, digest)


class JobPaths:
    def __init__(self, root: str) -> None:
        self.root = root
        self.spec = os.path.join(root, "spec.json")
        self.state = os.path.join(root, "state.json")
        self.reserve = os.path.join(root, "state.reserve")
        self.lock = os.path.join(root, "lock")
        self.stop = os.path.join(root, "stop.json")
        self.arriving = os.path.join(root, "arriving")
        self.preparer_lock = os.path.join(root, "preparer.lock")
        self.preparer_errors = os.path.join(root, "preparer.err")
        self.log = os.path.join(root, "log")
        self.errors = os.path.join(root, "supervisor.err")
        self.seen = os.path.join(root, "seen.json")
        self.container_env = os.path.join(root, "container.env")
        self.outputs = os.path.join(root, "outputs")
        self.work = os.path.join(root, "work")
        self.home = os.path.join(root, "home")
