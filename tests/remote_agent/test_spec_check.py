"""Specifications that could never run are refused with the reason."""

from __future__ import annotations

import os

import pytest

from remote_agent.faults import AgentFault
from remote_agent.layout import Layout
from remote_agent.protocol.job import CONTAINER, ImagePlan, JobSpec
from remote_agent.spec_check import check_spec

CONTEXT = "ab" * 32
PULLED = ImagePlan(base="pytorch:2.9", pull="mirror.lab/pytorch:2.9", size=5 << 30)
SENT = ImagePlan(sender="ann@laptop", size=1 << 30)
BUILT = ImagePlan(base="pytorch:2.9", build=CONTEXT, build_args={"HTTP_PROXY": "http://p:s@x"})


@pytest.fixture
def layout(tmp_path):
    made = Layout.open(str(tmp_path / "state"))
    os.makedirs(os.path.dirname(made.blob(CONTEXT)))
    with open(made.blob(CONTEXT), "wb") as file:
        file.write(b"tar")
    return made


def refusal(layout, **others):
    try:
        check_spec(JobSpec("job-a", "a", ("true",), **others), layout)
    except AgentFault as fault:
        return f"{fault.code}: {fault.message}"
    return ""


@pytest.mark.parametrize(("gpus", "indices"), [(0, ()), (2, ()), (2, (3, 0)), (1, (1023,))])
def test_exact_gpus_that_fit_are_taken(layout, gpus, indices):
    assert refusal(layout, gpus=gpus, gpu_indices=indices) == ""


@pytest.mark.parametrize(
    ("gpus", "indices"),
    [(0, (0,)), (1, (0, 1)), (2, (1,)), (2, (1, 1)), (1, (-1,)), (1, (1024,)), (1, (True,))],
)
def test_exact_gpus_that_cannot_be_are_refused(layout, gpus, indices):
    assert "different numbers from 0 to 1023" in refusal(layout, gpus=gpus, gpu_indices=indices)


@pytest.mark.parametrize(
    "plan",
    [
        PULLED,
        SENT,
        BUILT,
        ImagePlan(base="pytorch:2.9", pull="pytorch:2.9", build=CONTEXT),
        ImagePlan(base="pytorch:2.9", sender="ann@laptop", build=CONTEXT),
        ImagePlan(pull="rigup/pytorch:1"),
    ],
)
def test_ways_to_get_an_image(layout, plan):
    assert refusal(layout, runtime=CONTAINER, image="rigup/pytorch:1", image_plan=plan) == ""


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (ImagePlan(), "one of pull, sender and build"),
        (ImagePlan(base="pytorch:2.9"), "one of pull, sender and build"),
        (ImagePlan(pull="a", sender="ann@laptop"), "not both"),
        (ImagePlan(pull="--all-tags"), "pull must be a reference"),
        (ImagePlan(pull=""), "pull must be a reference"),
        (ImagePlan(pull="a\0b"), "pull must be a reference"),
        (ImagePlan(pull="a b"), "pull must be a reference"),
        (ImagePlan(pull="a" * 501), "pull must be a reference"),
        (ImagePlan(pull="a", base="-q"), "base must be a reference"),
        (ImagePlan(sender="ann\x1b[2J"), "short printable text"),
        (ImagePlan(sender="a" * 201), "short printable text"),
        (ImagePlan(sender="ann", size=-1), "size must be"),
        (ImagePlan(sender="ann", size=(1 << 50) + 1), "size must be"),
        (ImagePlan(build=CONTEXT), "needs a base"),
        (ImagePlan(base="rigup/pytorch:1", build=CONTEXT), "needs a base"),
        (ImagePlan(base="a", build="../../etc/passwd"), "not the digest"),
        (ImagePlan(base="a", build="cd" * 32), "put it first"),
        (ImagePlan(base="a", build=CONTEXT, build_args={"A=B": "x"}), "name of a build argument"),
        (ImagePlan(base="a", build=CONTEXT, build_args={"PATH": "x"}), "name of a build argument"),
        (ImagePlan(base="a", build=CONTEXT, build_args={"DOCKER_HOST": "x"}), "build argument"),
        (ImagePlan(base="a", build=CONTEXT, build_args={"A": "x\0"}), "is no word"),
        (ImagePlan(base="a", build=CONTEXT, build_args={"A": "x" * 9000}), "is too long"),
        (
            ImagePlan(base="a", build=CONTEXT, build_args={f"A{n}": "" for n in range(101)}),
            "at most 100 build arguments",
        ),
    ],
)
def test_plans_that_cannot_be_carried_out(layout, plan, said):
    refused = refusal(layout, runtime=CONTAINER, image="rigup/pytorch:1", image_plan=plan)
    assert said in refused


def test_a_build_argument_that_is_refused_does_not_show_its_value(layout):
    plan = ImagePlan(base="a", build=CONTEXT, build_args={"HTTP_PROXY": "http://ann:s3cret\0@p"})
    refused = refusal(layout, runtime=CONTAINER, image="rigup/pytorch:1", image_plan=plan)
    assert "HTTP_PROXY" in refused
    assert "s3cret" not in refused


def test_a_process_needs_no_image(layout):
    assert "container jobs" in refusal(layout, image_plan=SENT)
