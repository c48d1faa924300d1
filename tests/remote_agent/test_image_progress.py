"""How far Docker is, told from what its client prints. The outputs are captured."""

from __future__ import annotations

import random

import pytest

from remote_agent.image_progress import (
    MAX_LINE,
    MAX_WORDS,
    BuildProgress,
    Lines,
    PullProgress,
    last_words,
    receiving,
)

PULL = """\
2.9.0-cuda12.8-cudnn9-runtime: Pulling from pytorch/pytorch
4f4fb700ef54: Already exists
d1a5a1e51f25: Pulling fs layer
75f8eea31a63: Pulling fs layer
6a2ea9f0b3d2: Pulling fs layer
6a2ea9f0b3d2: Waiting
75f8eea31a63: Verifying Checksum
75f8eea31a63: Download complete
d1a5a1e51f25: Download complete
d1a5a1e51f25: Pull complete
75f8eea31a63: Pull complete
"""
CLASSIC = """\
Sending build context to Docker daemon  14.34kB\r\r
Step 1/11 : ARG BASE_IMAGE=pytorch/pytorch
Step 2/11 : FROM ${BASE_IMAGE} AS packages
 ---> 1b9c1d0a3b3e
Step 4/11 : COPY install.sh /tmp/
"""
BUILDKIT = """\
#0 building with "default" instance using docker driver
#1 [internal] load remote build context
#1 DONE 0.0s
#3 [internal] load metadata for docker.io/pytorch/pytorch:2.9
#5 [packages 1/3] FROM docker.io/pytorch/pytorch:2.9
#6 [packages 2/3] COPY install.sh /tmp/
#7 [stage-1 2/5] RUN mkdir -p /run/sshd
#7 0.312 [9/9] is what the program itself prints
"""


def shown(progress, text):
    for line in Lines().feed(text.encode()):
        progress.take(line)
    return str(progress)


def test_a_pull_counts_layers() -> None:
    progress = PullProgress("pytorch/pytorch:2.9")
    assert str(progress) == "pulling pytorch/pytorch:2.9"
    assert shown(progress, PULL) == "pulling 3 of 4 layers of pytorch/pytorch:2.9"
    assert "4 of 4 layers" in shown(progress, "6a2ea9f0b3d2: Pull complete\n")


def test_a_classic_build_counts_steps() -> None:
    progress = BuildProgress("rigup/pytorch:1")
    assert str(progress) == "building rigup/pytorch:1"
    assert shown(progress, CLASSIC) == "building step 4 of 11 of rigup/pytorch:1"


def test_the_steps_of_all_stages_of_buildkit_are_added_up() -> None:
    assert shown(BuildProgress("x"), BUILDKIT) == "building step 4 of 8 of x"


def test_a_build_without_named_stages() -> None:
    assert shown(BuildProgress("x"), "#7 [4/6] RUN make\n") == "building step 4 of 6 of x"


@pytest.mark.parametrize(
    ("arrived", "size", "said"),
    [
        (0, 1 << 30, "receiving x:1 from ann@laptop"),
        (812 << 20, 1830 << 20, "receiving 812 of about 1,830 MiB of x:1 from ann@laptop"),
        (1900 << 20, 1830 << 20, "receiving 1,900 of about 1,900 MiB of x:1 from ann@laptop"),
        (812 << 20, 0, "receiving 812 MiB of x:1 from ann@laptop"),
    ],
)
def test_what_has_arrived(arrived: int, size: int, said: str) -> None:
    assert receiving("x:1", "ann@laptop", arrived, size) == said


def test_a_line_without_end_takes_little_memory() -> None:
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"x" * 65536) == []
    cut = "x" * (MAX_LINE - 1) + "…"
    assert lines.rest() == cut
    assert lines.feed(b"\nnext\n") == [cut, "next"]
    assert lines.feed(b"y" * MAX_LINE + b"\n") == ["y" * MAX_LINE]


def test_carriage_returns_end_lines_and_control_characters_vanish() -> None:
    assert Lines().feed(b"10%\r\x1b[31m20%\x00\n") == ["10%", "[31m20%"]


def test_the_last_words_hold_no_passwords() -> None:
    lines = ["step", "", "Cannot connect to http://ann:s3cret@proxy:3128", "ERROR: pa/ss@x failed"]
    said = last_words(lines, ["http://bob:pa/ss@x@proxy", "", "plain"])
    assert "s3cret" not in said
    assert "proxy:3128" in said
    assert "tok" not in last_words(["see https://ann:" + "tok" * 200 + "@registry.example"])
    assert "pa/ss" not in last_words(["login bob:pa/ss@x failed"], ["http://bob:pa/ss@x@proxy"])


LOGIN = "ann:pa/ss@word"


@pytest.mark.parametrize("begin", ["http://", "login "])
@pytest.mark.parametrize("kept", range(1, len(LOGIN) + 1))
def test_a_line_that_is_cut_in_a_password_holds_no_part_of_it(begin: str, kept: int) -> None:
    before = "x" * (MAX_LINE - len(begin) - kept - 2) + " " + begin
    [line] = Lines().feed(f"{before}{LOGIN}@proxy:3128 refused\n".encode())
    said = last_words([line], [f"http://{LOGIN}@proxy:3128"])
    assert said.endswith(begin + "***…")


def test_a_url_that_is_cut_is_not_shown() -> None:
    line = "x" * (MAX_LINE - 20) + " http://bob:s3cret99@proxy refused\n"
    assert last_words(Lines().feed(line.encode())).endswith(" http://***…")


def test_the_last_words_are_short_and_the_last() -> None:
    said = last_words(["a" * 1000, "b" * 1000, "the reason"])
    assert len(said) <= MAX_WORDS + 1
    assert said.endswith("the reason")


def test_anything_at_all_never_raises() -> None:
    rng = random.Random(8)
    source = (PULL + CLASSIC + BUILDKIT).encode()
    for _ in range(200):
        data = bytearray(source)
        for _ in range(40):
            data[rng.randrange(len(data))] = rng.randrange(256)
        lines = Lines().feed(bytes(data))
        for progress in (PullProgress("x"), BuildProgress("x")):
            for line in lines:
                progress.take(line)
            assert len(str(progress)) < 100
        last_words(lines)


def test_very_many_layers_and_stages_are_not_kept() -> None:
    pull, build = PullProgress("x"), BuildProgress("x")
    for number in range(5000):
        pull.take(f"{number:012x}: Pull complete")
        build.take(f"#1 [s{number} 1/2] RUN")
    assert str(pull) == "pulling 1000 of 1000 layers of x"
    assert str(build) == "building step 1000 of 2000 of x"
