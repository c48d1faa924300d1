"""Refuse a job specification that could never run, saying why."""

from __future__ import annotations

import os
import re
from typing import Iterator

from remote_agent.faults import AgentFault
from remote_agent.layout import Layout
from remote_agent.protocol.job import CONTAINER, JOB_ID, ImagePlan, JobSpec
from remote_agent.protocol.snapshot import DIGEST
from remote_agent.runtimes import RUNTIMES

ENV_NAME = re.compile(r"[^=\s\0#][^=\s\0]*\Z")
ARGUMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}\Z")
REFERENCE = re.compile(r"[!-,.-~][!-~]{0,499}\Z")
"""An image for Docker's command line: printable ASCII without spaces, no option. Docker itself
checks the rest."""
OF_CLIENT = ("PATH", "HOME", "DOCKER_", "BUILDX_", "LD_")
"""Environment variables that Docker's client itself goes by, or how their names begin: build
arguments reach it in its environment."""
MAX_INDEX = 1023
MAX_SENDER = 200
MAX_ARGUMENTS, MAX_ARGUMENT = 100, 8192
"""Number and length, far below what Linux takes in an environment."""
MAX_IMAGE_SIZE = 1 << 50


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
    if spec.gpu_indices and not _are_indices(spec):
        yield "gpu_indices must be %r different numbers from 0 to %d" % (spec.gpus, MAX_INDEX)
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
    if spec.image_plan is not None:
        yield from _plan_problems(spec, spec.image_plan, layout)


def _plan_problems(spec: JobSpec, plan: ImagePlan, layout: Layout) -> Iterator[str]:
    if spec.runtime != CONTAINER:
        yield "image_plan is for container jobs"
    for name, reference in (("image", spec.image), ("base", plan.base), ("pull", plan.pull)):
        if reference and not _is_reference(reference):
            yield "image_plan: %s must be a reference of an image, not %.80r" % (name, reference)
    if plan.pull is not None and not plan.pull:
        yield "image_plan: pull must be a reference of an image or null"
    if plan.pull and plan.sender:
        yield "image_plan: either the host pulls the image or somebody sends it, not both"
    if not (plan.pull or plan.sender or plan.build):
        yield "image_plan: it needs one of pull, sender and build"
    if len(plan.sender) > MAX_SENDER or not plan.sender.isprintable():
        yield "image_plan: sender must be a short printable text"
    if plan.build is not None:
        yield from _build_problems(spec, plan, layout)
    if not 0 <= plan.size <= MAX_IMAGE_SIZE:
        yield "image_plan: size must be from 0 to %d bytes" % MAX_IMAGE_SIZE


def _build_problems(spec: JobSpec, plan: ImagePlan, layout: Layout) -> Iterator[str]:
    if plan.base in ("", spec.image):
        yield "image_plan: what is built needs a base, which is another image"
    if not DIGEST.match(str(plan.build)):
        yield "image_plan: %.80r is not the digest of a build context" % (plan.build,)
    elif not os.path.exists(layout.blob(str(plan.build))):
        yield "build context %s is not on this host: put it first" % plan.build
    if len(plan.build_args) > MAX_ARGUMENTS:
        yield "image_plan: at most %d build arguments" % MAX_ARGUMENTS
    for name, value in plan.build_args.items():
        if not ARGUMENT_NAME.match(name) or name.upper().startswith(OF_CLIENT):
            yield "image_plan: %.80r cannot be the name of a build argument" % name
        if not _is_word(value):
            yield "image_plan: the value of build argument %s is no word" % name
        elif len(value) > MAX_ARGUMENT:
            yield "image_plan: the value of build argument %s is too long" % name


def _is_reference(text: str) -> bool:
    return isinstance(text, str) and REFERENCE.match(text) is not None


def _are_indices(spec: JobSpec) -> bool:
    numbers = spec.gpu_indices
    fit = all(type(number) is int and 0 <= number <= MAX_INDEX for number in numbers)
    return fit and len(set(numbers)) == len(numbers) == spec.gpus


def _snapshot_problems(snapshot: object, layout: Layout) -> Iterator[str]:
    if not isinstance(snapshot, str) or not DIGEST.match(snapshot):
        yield "%r is not a snapshot digest" % (snapshot,)
    elif not os.path.exists(layout.manifest(snapshot)):
        yield "snapshot %s is not on this host: put it first" % snapshot


def _is_command(argv: object) -> bool:
    return isinstance(argv, tuple) and all(map(_is_word, argv)) and bool(argv and argv[0])


def _is_word(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value
