"""What ``train`` was asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.errors import UsageError
from provisioner.train.request import (
    Request,
    Script,
    Words,
    find_script,
    new_job_id,
    read_words,
)
from remote_agent.protocol.job import JOB_ID


class TestFindScript:
    @pytest.fixture
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
        for name in ("here/pkg/train.py", "here/both.py", "examples/both.py", "examples/llama.py"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "here"

    def look(self, here: Path, name: str) -> Script:
        return find_script(name, here, here.parent / "examples")

    def test_the_current_directory_comes_first(self, here: Path) -> None:
        script = self.look(here, "both.py")
        assert (script.path, script.root) == (here / "both.py", here)
        assert (script.directory, script.argument) == ("", "both.py")

    def test_then_the_examples(self, here: Path) -> None:
        script = self.look(here, "llama.py")
        assert script.root == here.parent / "examples"
        assert (script.directory, script.argument) == ("", "llama.py")

    def test_a_script_outside_the_repository_travels_with_its_directory(self, here: Path) -> None:
        script = self.look(here, "pkg/train.py")
        assert script.root == here / "pkg"
        assert (script.directory, script.argument) == ("", "train.py")

    def test_a_job_starts_where_it_was_started_from(self, here: Path) -> None:
        script = Script(here / "pkg/train.py", here, here / "pkg")
        assert (script.directory, script.argument) == ("pkg", "train.py")
        assert Script(here / "pkg/train.py", here, here).argument == "pkg/train.py"
        assert Script(here / "both.py", here, here / "pkg").argument == "../both.py"

    @pytest.mark.parametrize("name", ["missing.py", "pkg", "", "..", "/nowhere/x.py"])
    def test_no_such_script_says_where_it_looked_and_what_there_is(
        self, here: Path, name: str
    ) -> None:
        with pytest.raises(UsageError, match=re.escape(repr(name))) as raised:
            self.look(here, name)
        assert str(here) in raised.value.message
        assert "both.py, llama.py" in str(raised.value.remedy)


class TestJobId:
    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=80) | st.sampled_from(["", "-", "--rm", "../..", "a" * 300, "ÄÖ"]))
    def test_any_name_gives_a_lawful_id(self, name: str) -> None:
        job_id = new_job_id(name, now=1e9)
        assert JOB_ID.match(job_id)
        assert not job_id.endswith("\n")

    def test_it_is_readable_and_unique(self) -> None:
        assert new_job_id("Fine Tune_Llama.v2", now=0).startswith("fine-tune-llama-v2-")
        assert len({new_job_id("x", now=0) for _ in range(20)}) > 15


def script(directory: Path, text: str = "") -> Script:
    path = directory / "train.py"
    path.write_text(text)
    return Script(path, directory, directory)


@pytest.mark.parametrize("name", ["runtime", "launcher"])
def test_unknown_words_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} slurm: expected"):
        Request(script(tmp_path), **{name: "slurm"})


def test_secrets_of_a_job_are_not_in_its_representation(tmp_path: Path) -> None:
    assert "hunter2" not in repr(Request(script(tmp_path), environment={"TOKEN": "hunter2"}))


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("import torch\n", True),
        ("from torch.nn import Linear\n", True),
        ("def f():\n    import torch.distributed as dist\n", True),
        ("import torchvision_is_not_torch\n", False),
        ("# import torch\n", False),
        ("print('no torch')\n", False),
        ("not python at all )(", False),
        ("\0", False),
        ("(" * 100_000, False),
    ],
)
def test_whether_a_script_needs_torch(tmp_path: Path, text: str, needs: bool) -> None:
    assert Request(script(tmp_path, text)).needs_torch is needs
    assert Request(script(tmp_path, text), launcher="torchrun").needs_torch


def test_a_script_that_cannot_be_read_needs_nothing(tmp_path: Path) -> None:
    assert not Request(Script(tmp_path / "gone.py", tmp_path, tmp_path)).needs_torch


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ('add("--local_rank")', True),
        ('add("--local-rank", "--local_rank")', False),
        ("os.environ['LOCAL_RANK']", False),
    ],
)
def test_scripts_that_know_only_the_old_option_are_told_of(
    tmp_path: Path, text: str, is_told: bool
) -> None:
    old = Request(script(tmp_path, text), launcher="torch.distributed.launch")
    assert bool(old.notes) is is_told
    assert Request(script(tmp_path, text)).notes == ()


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("a.py", ["--lr", "1"], Words("a.py", ("--lr", "1"))),
        ("a.py", ["torchrun", "b.py"], Words("a.py", ("torchrun", "b.py"))),
        (
            None,
            ["torchrun", "--nproc-per-node=4", "a.py", "-x"],
            Words("a.py", ("-x",), "4", "torchrun"),
        ),
        (None, ["python3", "a.py", "-x"], Words("a.py", ("-x",))),
        (None, ["a.py"], Words("a.py", ())),
        (None, ["python", "-u", "-OO", "a.py"], Words("a.py", ())),
    ],
)
def test_a_script_or_a_whole_line(name: str | None, words: list[str], expected: Words) -> None:
    assert read_words(name, words) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "no script was named"),
        ("python", "no script was named"),
        ("--lr 1", "no script was named"),
        ("deepspeed train.py", "no script was named"),
        ("python -m pkg", "a module cannot be started"),
    ],
)
def test_a_line_without_a_script_is_refused(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        read_words(None, line.split())
    assert "torchrun" in str(raised.value.remedy)
