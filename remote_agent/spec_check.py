"""Refuse a job specification that could never run, saying why."""

from __future__ import annotations

import os
import re
from typing import Iterator

from remote_agent.faults import AgentFault
from remote_agent.layout import Layout
from remote_agent.protocol.job import CONTAINER, JOB_ID, JobSpec
from remote_agent.protocol.snapshot import DIGEST
from remote_agent.runtimes import RUNTIMES

ENV_NAME = re.compile(r"[^=\s\0#][^=\s\0]*\Z")


def check_spec(spec: JobSpec, layout: Layout) -> None:
    """Raises AgentFault ``bad-spec``."""
    for problem in _problems(spec, layout):
        raise AgentFault("bad-spec", problem)


def _problems(spec: JobSpec, layout: Layout) -> Iterator[str]:
    if not isinstance(spec.job_id, str) or not JOB_ID.match(spec.job_id):
        yield "%r is not a job id: 3 to 63 of a-z 0-9 -" % (spec.job_id,)
    if not _is_command(spec.argv):
        yield "argv must be a list of words without NUL that starts with a program"
    if spec.runtime not in RUNTIMES:
        yield "unknown runtime %r: expected one of %s" % (spec.runtime, ", ".join(RUNTIMES))
    if type(spec.gpus) is not int or spec.gpus < 0:
        yield "gpus must be a whole number from 0, not %r" % (spec.gpus,)
    if spec.runtime == CONTAINER and (not spec.image or spec.image.startswith("-")):
        yield "a container job needs an image"
    if not isinstance(spec.env, dict):
        yield "env must map names to values"
    for name, value in spec.env.items():
        if not ENV_NAME.match(name) or not _is_word(value):
            yield "bad environment variable %r" % name
    if not all(_is_word(mount) and ":" in mount for mount in spec.mounts):
        yield "mounts must look like /on/host:/in/container[:ro]"
    if (
        not _is_word(spec.directory)
        or os.path.isabs(spec.directory)
        or ".." in spec.directory.split("/")
    ):
        yield "directory must be a plain relative path, not %r" % (spec.directory,)
    if spec.snapshot is not None:
        yield from _snapshot_problems(spec.snapshot, layout)


def _snapshot_problems(snapshot: object, layout: Layout) -> Iterator[str]:
    if not isinstance(snapshot, str) or not DIGEST.match(snapshot):
        yield "%r is not a snapshot digest" % (snapshot,)
    elif not os.path.exists(layout.manifest(snapshot)):
        yield "snapshot %s is not on this host: put it first" % snapshot


def _is_command(argv: object) -> bool:
    return isinstance(argv, tuple) and all(map(_is_word, argv)) and bool(argv and argv[0])


def _is_word(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value
