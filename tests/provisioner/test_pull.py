"""Bringing outputs here: whole files of one version, and everything else by name."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner import pull as pull_module
from provisioner.agent.client import OutputHash, OutputPart
from provisioner.agent.patient import PatientAgent
from provisioner.errors import AgentError, ConnectionLost, RigupError, UsageError
from provisioner.pull import PULLED_LIST, Pulled, local_path, pull, read_pulled_list, stays_inside
from remote_agent.protocol.snapshot import SKIPPED, SYMLINK, OutputFile

JOB = "train-0101-000000-abcd"
PART = 100
"""Bytes that the scripted agent gives at a time."""


@dataclass
class File:
    data: bytes
    modified_s: int = 1000
    inode: int = 1

    @property
    def identity(self) -> str:
        stamp = self.modified_s * 10**9
        return f"7:{self.inode}:{len(self.data)}:{stamp}:{stamp}"


@dataclass
class OutputAgent:
    """A scripted agent. ``before_read`` may change the files, or break the link."""

    files: dict[str, File]
    others: list[OutputFile] = field(default_factory=list)
    before_read: Callable[[int], None] = lambda count: None
    reads: list[tuple[str, int]] = field(default_factory=list)

    def list_outputs(self, job_id: str) -> tuple[OutputFile, ...]:
        listed = [
            OutputFile(name, len(file.data), float(file.modified_s), identity=file.identity)
            for name, file in self.files.items()
        ]
        return (*listed, *self.others)

    def read_output(self, job_id: str, path: str, offset: int, limit: int) -> OutputPart:
        self.before_read(len(self.reads))
        self.reads.append((path, offset))
        file = self._file(path)
        data = file.data[offset : offset + min(limit, PART)]
        whole = offset == 0 and len(data) == len(file.data)
        return OutputPart(file.identity, len(file.data), data, whole=whole)

    def hash_output(self, job_id: str, path: str, offset: int, length: int) -> OutputHash:
        self.before_read(len(self.reads))
        data = self._file(path).data[offset : offset + length]
        return OutputHash(hashlib.sha256(data).hexdigest(), self._file(path).identity)

    def close(self) -> None:
        return

    def _file(self, path: str) -> File:
        if path not in self.files:
            raise AgentError("the job has no such output", code="no-such-output")
        return self.files[path]


def bring(agent: Any, target: Path, attempts: int = 1) -> Pulled:
    patient = PatientAgent(lambda: agent, attempts=attempts, sleep=lambda pause: None)
    return pull(patient, JOB, target, lambda text: None)


def listing(target: Path) -> set[str]:
    found = {path.relative_to(target).as_posix() for path in target.rglob("*")}
    return found - {PULLED_LIST}


DATA = os.urandom(450)


class TestFiles:
    def test_files_with_their_times(self, tmp_path: Path) -> None:
        agent = OutputAgent({"model/a.bin": File(DATA), "empty": File(b"")})
        pulled = bring(agent, tmp_path / "new")
        path = tmp_path / "new" / "model" / "a.bin"
        assert pulled.files == [path, tmp_path / "new" / "empty"]
        assert path.read_bytes() == DATA
        assert path.stat().st_mtime == 1000.0
        assert (tmp_path / "new" / "empty").read_bytes() == b""

    def test_what_is_there_already_is_not_read_again(self, tmp_path: Path) -> None:
        agent = OutputAgent({"a": File(DATA)})
        bring(agent, tmp_path)
        agent.reads.clear()
        assert bring(agent, tmp_path).files == [tmp_path / "a"]
        assert agent.reads == []

    def test_a_newer_version_replaces_the_older(self, tmp_path: Path) -> None:
        bring(OutputAgent({"a": File(b"old")}), tmp_path)
        bring(OutputAgent({"a": File(b"new", modified_s=2000)}), tmp_path)
        assert (tmp_path / "a").read_bytes() == b"new"

    def test_a_symlink_in_the_place_of_a_file_is_replaced_not_followed(
        self, tmp_path: Path
    ) -> None:
        precious = tmp_path / "precious"
        precious.write_text("precious")
        target = tmp_path / "target"
        target.mkdir()
        (target / "a").symlink_to(precious)
        bring(OutputAgent({"a": File(DATA)}), target)
        assert precious.read_text() == "precious"
        assert (target / "a").read_bytes() == DATA

    def test_a_name_that_is_no_utf8(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9.bin")
        bring(OutputAgent({name: File(DATA), "b": File(b"b")}), tmp_path)
        assert (tmp_path / name).read_bytes() == DATA
        assert sorted(read_pulled_list(tmp_path)) == sorted([name, "b"])

    def test_zeros_that_lie_on_no_disk_are_not_sent(self, tmp_path: Path) -> None:
        class Sparse(OutputAgent):
            def read_output(self, job_id: str, path: str, offset: int, limit: int) -> OutputPart:
                if offset == 0:
                    return OutputPart(self._file(path).identity, 450, b"", hole=400)
                return super().read_output(job_id, path, offset, limit)

        bring(Sparse({"a": File(bytes(400) + DATA[:50])}), tmp_path)
        assert (tmp_path / "a").read_bytes() == bytes(400) + DATA[:50]


class TestLostLink:
    def test_a_broken_pull_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        def lose_the_link(count: int) -> None:
            if count == 2:
                raise ConnectionLost("lost")

        agent = OutputAgent({"a": File(DATA)}, before_read=lose_the_link)
        with pytest.raises(ConnectionLost):
            bring(agent, tmp_path)
        assert not (tmp_path / "a").exists(), "a half file never has the file's name"
        agent.before_read = lambda count: None
        agent.reads.clear()
        bring(agent, tmp_path)
        assert agent.reads[0] == ("a", 200)
        assert (tmp_path / "a").read_bytes() == DATA
        assert listing(tmp_path) == {"a"}

    def test_a_pull_connects_again_by_itself(self, tmp_path: Path) -> None:
        broken = []

        def lose_the_link(count: int) -> None:
            if count in (1, 3) and count not in broken:
                broken.append(count)
                raise ConnectionLost("lost")

        agent = OutputAgent({"a": File(DATA)}, before_read=lose_the_link)
        bring(agent, tmp_path, attempts=3)
        assert broken == [1, 3]
        assert (tmp_path / "a").read_bytes() == DATA
        assert agent.reads == [("a", offset) for offset in range(0, 450, PART)]

    def test_a_link_that_stays_down_is_an_error(self, tmp_path: Path) -> None:
        def lose_the_link(count: int) -> None:
            raise ConnectionLost("lost")

        with pytest.raises(ConnectionLost):
            bring(OutputAgent({"a": File(DATA)}, before_read=lose_the_link), tmp_path, attempts=4)


class TestChanges:
    def test_a_file_that_is_replaced_meanwhile_is_read_anew(self, tmp_path: Path) -> None:
        newer = File(os.urandom(450), modified_s=2000, inode=2)

        def replace(count: int) -> None:
            if count == 2:
                agent.files["a"] = newer

        agent = OutputAgent({"a": File(DATA)}, before_read=replace)
        bring(agent, tmp_path)
        assert (tmp_path / "a").read_bytes() == newer.data
        assert (tmp_path / "a").stat().st_mtime == 2000.0
        assert listing(tmp_path) == {"a"}

    def test_a_file_that_is_written_to_without_another_time_is_read_anew(
        self, tmp_path: Path
    ) -> None:
        def write(count: int) -> None:
            if count == 3:
                agent.files["a"] = File(bytes(450))  # the same size and times

        agent = OutputAgent({"a": File(DATA)}, before_read=write)
        bring(agent, tmp_path)
        assert (tmp_path / "a").read_bytes() == bytes(450)

    def test_a_file_that_always_changes_is_named(self, tmp_path: Path) -> None:
        def replace(count: int) -> None:
            agent.files["a"] = File(os.urandom(450), modified_s=2000 + count)

        agent = OutputAgent({"a": File(DATA), "b": File(b"b")}, before_read=replace)
        pulled = bring(agent, tmp_path)
        assert pulled.files == [tmp_path / "b"]
        [(path, reason)] = pulled.left_out
        assert path == "a"
        assert "changes all the time" in reason
        assert listing(tmp_path) == {"b"}

    def test_a_small_file_that_grows_is_taken_as_it_is_now(self, tmp_path: Path) -> None:
        def grow(count: int) -> None:
            agent.files["a"] = File(agent.files["a"].data + b"x", modified_s=2000 + count)

        agent = OutputAgent({"a": File(b"log")}, before_read=grow)
        bring(agent, tmp_path)
        assert (tmp_path / "a").read_bytes() == b"logx"

    def test_the_half_of_another_version_is_cleared_away(self, tmp_path: Path) -> None:
        def lose_the_link(count: int) -> None:
            if count == 2:
                raise ConnectionLost("lost")

        with pytest.raises(ConnectionLost):
            bring(OutputAgent({"a": File(DATA)}, before_read=lose_the_link), tmp_path)
        bring(OutputAgent({"a": File(bytes(450), modified_s=2000)}), tmp_path)
        assert (tmp_path / "a").read_bytes() == bytes(450)
        assert listing(tmp_path) == {"a"}


class TestLeftOut:
    @pytest.mark.parametrize(
        "odd",
        [
            OutputFile("fifo", 0, 0.0, SKIPPED, reason="a named pipe"),
            OutputFile("n" * 300, 5, 1.0, identity="7:1:5:1:1"),
            OutputFile("vanished", 5, 1.0, identity="7:1:5:1:1"),
            OutputFile("taken", 5, 1.0, identity="7:1:5:1:1"),
            OutputFile(PULLED_LIST, 5, 1.0, identity="7:1:5:1:1"),
            OutputFile("a/.x.rigup-part", 5, 1.0, identity="7:1:5:1:1"),
            OutputFile("good/below", 5, 1.0, identity="7:1:5:1:1"),
            OutputFile("link", 0, 0.0, SYMLINK, target="/etc/passwd"),
            OutputFile("link", 0, 0.0, SYMLINK, target="../out"),
            OutputFile("link", 0, 0.0, SYMLINK, target="link"),
            OutputFile(f"{PULLED_LIST}/x", 5, 1.0, identity="7:1:5:1:1"),
            OutputFile("link", 0, 0.0, SYMLINK, target="a/../../x"),
            OutputFile("link", 0, 0.0, SYMLINK),
        ],
        ids=lambda odd: f"{odd.path[:9]} {odd.target or ''}",
    )
    def test_one_odd_output_is_named_and_the_others_come(
        self, tmp_path: Path, odd: OutputFile
    ) -> None:
        (tmp_path / "taken").mkdir()
        agent = OutputAgent({"good": File(DATA)}, others=[odd])
        pulled = bring(agent, tmp_path)
        assert (tmp_path / "good").read_bytes() == DATA
        assert [path for path, _ in pulled.left_out] == [odd.path]
        assert all(reason for _, reason in pulled.left_out)
        assert not (tmp_path / "link").is_symlink()

    def test_symlinks_that_stay_inside_are_pulled_as_symlinks(self, tmp_path: Path) -> None:
        latest = OutputFile("ckpt/latest", 0, 0.0, SYMLINK, target="../runs/step-2")
        agent = OutputAgent({"runs/step-2": File(DATA)}, others=[latest])
        for _ in range(2):
            assert bring(agent, tmp_path).left_out == []
        assert os.readlink(tmp_path / "ckpt/latest") == "../runs/step-2"
        assert (tmp_path / "ckpt/latest").read_bytes() == DATA

    def test_a_full_disk_ends_the_pull_and_leaves_no_half_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*arguments: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(pull_module.os, "utime", full)
        with pytest.raises(RigupError, match="No space left") as caught:
            bring(OutputAgent({"a": File(DATA)}), tmp_path)
        assert "pull again" in str(caught.value.remedy)
        assert not (tmp_path / "a").exists()

    def test_a_target_that_cannot_be_made_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RigupError, match="cannot write below"):
            bring(OutputAgent({"a": File(DATA)}), tmp_path / "file" / "target")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", ""])
def test_a_hostile_name_lands_nowhere(tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    with pytest.raises(UsageError, match="outside the target"):
        bring(OutputAgent({name: File(b"x")}), target)
    assert [path.name for path in tmp_path.rglob("*")] == ["target"]


def test_a_loop_of_symlinks_here_keeps_out_what_is_below_it_only(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    pulled = bring(OutputAgent({"loop/x": File(DATA), "good": File(DATA)}), tmp_path)
    assert pulled.files == [tmp_path / "good"]
    assert [path for path, _ in pulled.left_out] == ["loop/x"]


def test_a_users_own_symlink_keeps_out_what_is_below_it_only(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "disk").mkdir()
    (target / "ckpt").symlink_to(tmp_path / "disk")
    pulled = bring(OutputAgent({"ckpt/x": File(DATA), "good": File(DATA)}), target)
    assert pulled.files == [target / "good"]
    [(path, reason)] = pulled.left_out
    assert (path, "symbolic link" in reason) == ("ckpt/x", True)
    assert list((tmp_path / "disk").iterdir()) == []


PARTS = st.lists(st.sampled_from(["..", ".", "", "a", "b", "c"]), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(links=st.dictionaries(PARTS.map("/".join), PARTS.map("/".join), max_size=4))
def test_no_set_of_accepted_symlinks_leads_outside(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]
) -> None:
    top = tmp_path_factory.mktemp("links") / "target"
    top.mkdir()
    for link, destination in links.items():
        plain = not any(part in ("", ".", "..") for part in link.split("/"))
        if not plain or not stays_inside(link, destination):
            continue
        path = top / link
        if path.parent.resolve().is_relative_to(top) and path.parent == path.parent.resolve():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(path):
                path.symlink_to(destination)
    for path in top.rglob("*"):
        if path.is_symlink():
            try:
                resolved = path.resolve()
            except (OSError, RuntimeError):  # a loop
                continue
            assert resolved.is_relative_to(top)


class TestLocalPath:
    @pytest.mark.parametrize(
        "remote",
        [
            *("", ".", "..", "../x", "a/../../x", "/etc/passwd", "//x", "a/..", "a\0b"),
            *("./..", "a/b/../../../x"),
        ],
    )
    def test_a_name_that_leads_outside(self, tmp_path: Path, remote: str) -> None:
        with pytest.raises(UsageError, match="outside the target"):
            local_path(tmp_path, remote)

    def test_a_symlink_that_leads_outside(self, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.mkdir()
        (target / "out").symlink_to(tmp_path)
        for remote in ("out/x", "out/deeper/x"):
            with pytest.raises(UsageError, match="symbolic link") as raised:
                local_path(target, remote)
            assert "--to" in str(raised.value.remedy)

    def test_a_target_that_is_itself_a_symlink(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        assert local_path(tmp_path / "link", "a/b") == tmp_path / "link" / "a" / "b"

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["..", ".", "/", "a", "\0", "\\", "~", "", " ", "link", "C:", "…"])
            | st.text(max_size=4),
            max_size=8,
        ).map(lambda parts: "/".join(parts))
    )
    def test_whatever_a_host_names_stays_below_the_target(self, remote: str) -> None:
        target = Path("/nowhere/target")
        try:
            path = local_path(target, remote)
        except UsageError:
            return
        assert Path(os.path.normpath(path)).is_relative_to(target)
        assert path != target


class TestListOfPulledFiles:
    def test_it_names_what_came_before_the_pull_broke_off(self, tmp_path: Path) -> None:
        def breaks(count: int) -> None:
            if count >= 2:
                raise ConnectionLost("lost")

        agent = OutputAgent({"a": File(b"x"), "b": File(DATA)}, before_read=breaks)
        with pytest.raises(ConnectionLost):
            bring(agent, tmp_path)
        assert (tmp_path / "a").exists()
        assert list(read_pulled_list(tmp_path)) == ["a"]

    def test_a_line_that_was_cut_off_spoils_no_other(self, tmp_path: Path) -> None:
        (tmp_path / PULLED_LIST).write_text('"old"\n"cut o')
        bring(OutputAgent({"a": File(b"x"), "b": File(b"y")}), tmp_path)
        bring(OutputAgent({"a": File(b"x"), "b": File(b"y")}), tmp_path)
        assert list(read_pulled_list(tmp_path)) == ["old", "a", "b"]


class TestDirectoriesThatWereSymlinks:
    def latest(self, data: bytes) -> OutputAgent:
        return OutputAgent({"one/a": File(b"one"), "latest/a": File(data, inode=2)})

    def test_one_that_was_pulled_makes_room(self, tmp_path: Path) -> None:
        link = OutputFile("latest", 0, 0.0, SYMLINK, "one")
        bring(OutputAgent({"one/a": File(b"one")}, [link]), tmp_path)
        assert bring(self.latest(b"two"), tmp_path).left_out == []
        assert (tmp_path / "one/a").read_bytes() == b"one"
        assert (tmp_path / "latest/a").read_bytes() == b"two"

    def test_one_of_the_users_own_stays(self, tmp_path: Path) -> None:
        (tmp_path / "one").mkdir()
        (tmp_path / "latest").symlink_to("one")
        pulled = bring(self.latest(b"two"), tmp_path)
        assert (tmp_path / "latest").is_symlink()
        assert (tmp_path / "one/a").read_bytes() == b"one"
        [(path, reason)] = pulled.left_out
        assert (path, "symlink" in reason) == ("latest/a", True)


@pytest.mark.parametrize("segments", [1, 2, 3, 1 << 35])
def test_a_hole_of_any_size_is_compared_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segments: int
) -> None:
    asked: list[int] = []
    size = segments * pull_module.SEGMENT
    identity = f"7:1:{size}:0:0"

    class Sparse(OutputAgent):
        def hash_output(self, job_id: str, path: str, offset: int, length: int) -> OutputHash:
            asked.append(offset)
            return OutputHash(hashlib.sha256(bytes(length)).hexdigest(), identity)

    patient = PatientAgent(lambda: Sparse({}))  # type: ignore[arg-type, return-value]
    puller = pull_module._Puller(patient, JOB, tmp_path, lambda text: None)
    digest = hashlib.sha256(bytes(pull_module.SEGMENT)).hexdigest()
    monkeypatch.setattr(pull_module, "_hash", lambda file, start, length: digest)
    puller._verify("zeros", io.BytesIO(), identity, [range(size)])
    assert asked == [size - pull_module.SEGMENT]
