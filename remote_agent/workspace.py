"""What a job finds when it starts: its own copy of the code, its directories, its environment."""

from __future__ import annotations

import os
from typing import Callable, Dict, Sequence

from remote_agent.detach import lasting_environment
from remote_agent.faults import CouldNotStart
from remote_agent.layout import JobPaths, Layout
from remote_agent.processes import JOB_MARK
from remote_agent.protocol.job import JobSpec
from remote_agent.runtimes.base import Gpu


def prepare(layout: Layout, spec: JobSpec, cancelled: Callable[[], bool]) -> None:
    """Fill the job's ``work`` directory. Raises CouldNotStart."""
    paths = layout.job(spec.job_id)
    try:
        if spec.snapshot is not None:
            _materialise(layout, spec.snapshot, paths, cancelled)
        for directory in {paths.work, working_directory(spec, paths)}:
            _link_outputs(directory, paths)
    except OSError as error:
        raise CouldNotStart(
            "could not write the job's files: %s" % error, "check the host's disk (`df -h`)"
        ) from None


def working_directory(spec: JobSpec, paths: JobPaths) -> str:
    return os.path.join(paths.work, spec.directory) if spec.directory else paths.work


def job_environment(spec: JobSpec, paths: JobPaths, gpus: Sequence[Gpu]) -> Dict[str, str]:
    """The login environment, the job's own variables, and rigup's, in rising precedence.

    Without leased GPUs none is visible: CUDA_VISIBLE_DEVICES is empty.
    """
    env = lasting_environment()
    env["PYTHONUNBUFFERED"] = "1"
    env.update(spec.env)
    env.update(own_variables(spec, paths, gpus))
    return env


def own_variables(spec: JobSpec, paths: JobPaths, gpus: Sequence[Gpu]) -> Dict[str, str]:
    return {
        JOB_MARK: spec.job_id,
        "RIGUP_OUTPUT_DIR": paths.outputs,
        "RIGUP_GPUS": ",".join(str(gpu.index) for gpu in gpus),
        "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in gpus),
    }


def _link_outputs(directory: str, paths: JobPaths) -> None:
    """``outputs`` in the working directory leads to the job's own. What the code has there is
    moved into it first, so the program finds it, and what it writes is kept. A symlink of the code
    in this place is replaced: results would land where nobody looks for them."""
    if not os.path.isdir(directory):
        raise CouldNotStart(
            "the code has no directory %s" % os.path.relpath(directory, paths.work),
            "start the job from a directory that is part of the code",
        )
    link = os.path.join(directory, "outputs")
    if os.path.islink(link):
        os.unlink(link)
    if os.path.isdir(link) and not os.path.islink(link):
        for name in os.listdir(link):
            if not os.path.lexists(os.path.join(paths.outputs, name)):
                os.rename(os.path.join(link, name), os.path.join(paths.outputs, name))
        if not os.listdir(link):
            os.rmdir(link)
    if not os.path.lexists(link):
        os.symlink(os.path.relpath(paths.outputs, directory), link)


def _materialise(
    layout: Layout, snapshot: str, paths: JobPaths, cancelled: Callable[[], bool]
) -> None:
    from remote_agent.snapshots import SnapshotStore

    store = SnapshotStore(layout)
    if not store.has_manifest(snapshot):
        raise CouldNotStart("its code snapshot is not on this host", "submit the job again")
    store.materialise(snapshot, paths.work, cancelled)
