"""Whatever Docker answers, an ending is made of it, or Docker counts as silent; nothing breaks."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from remote_agent import docker
from remote_agent.docker import Container, DockerSilent, container_events, inspect_container
from remote_agent.protocol.job import CONTAINER, JobSpec
from remote_agent.runtimes.base import Ending
from remote_agent.runtimes.container_end import (
    code_at_death,
    ending_of_container,
    lacks_shell,
    refusal,
    who_ended_it,
)

SPEC = JobSpec("job-1", "one", ("train",), runtime=CONTAINER, image="x")
KEYS = st.sampled_from(
    [
        "state",
        "labels",
        "Running",
        "ExitCode",
        "Action",
        "Actor",
        "Attributes",
        "signal",
        "timeNano",
    ]
)
WORDS = st.sampled_from(["kill", "die", "stop", "destroy", "9", "SIGTERM", "137"]) | st.text()
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)
LINES = st.lists(st.text() | st.sampled_from(["rigup-start: x", "[FATAL tini (7)] /bin/sh"]))


class Answer:
    """Replaces the call of the program."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, *words: str, timeout_s: float) -> tuple[int, str]:
        return 0, self.text


def with_answer(text, ask):
    before, docker.call_docker = docker.call_docker, Answer(text)
    try:
        return ask()
    finally:
        docker.call_docker = before


@settings(deadline=None)
@given(ANYTHING | st.dictionaries(KEYS, ANYTHING))
def test_any_json_is_a_container_or_silence(told):
    try:
        found = with_answer(json.dumps(told), lambda: inspect_container("x"))
    except DockerSilent:
        return
    assert isinstance(found, Container)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_container_or_silence(text):
    try:
        with_answer(text, lambda: inspect_container("x"))
    except DockerSilent:
        return


@settings(deadline=None)
@given(st.lists(ANYTHING | st.dictionaries(KEYS, ANYTHING)))
def test_any_events_are_words_and_a_code(rows):
    text = "\n".join(map(json.dumps, rows))
    events = with_answer(text, lambda: container_events("x", 0.0))
    assert isinstance(who_ended_it(events), str)
    assert isinstance(code_at_death(events), (int, type(None)))


@settings(deadline=None)
@given(
    st.builds(
        Container, status=st.sampled_from(["created", "exited", ""]), exit_code=st.integers()
    ),
    LINES,
    LINES,
)
def test_any_container_has_an_ending(container, client, log):
    assert isinstance(ending_of_container(container, SPEC, client, log), Ending)
    assert isinstance(lacks_shell(container, client), bool)
    assert refusal(client, SPEC).evidence
