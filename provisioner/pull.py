"""Bring a job's outputs here: resumable, each file whole and of one version, or named with why not.

A host may say anything: names that leave the target, files that change while they are read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from provisioner.agent.client import AgentClient, OutputHash, OutputPart, read_identity
from provisioner.agent.patient import PatientAgent
from provisioner.errors import AgentError, RigupError, UsageError
from remote_agent.protocol.snapshot import SKIPPED, SYMLINK, OutputFile, check_path
from remote_agent.protocol.values import ProtocolError

T = TypeVar("T")

CHUNK = 1 << 20
SEGMENT = 32 << 20
"""Bytes that are compared by one SHA-256 on both sides."""
VERSIONS_TRIED = 3
TIME_MATCHES_S = 1e-3
"""File systems and JSON keep times to less than this."""
PART_SUFFIX = ".rigup-part"
PULLED_LIST = ".rigup-pulled"
"""In a target: the paths that were pulled into it, one JSON text a line. ``train`` does not send
them as code."""

GONE = ("no-such-output", "outside-outputs", "io-error")
TARGET_UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""No further file can be written either."""


@dataclass
class Pulled:
    """``files``: what lies below the target now, new or from an earlier pull. ``left_out``: an
    output's path and why it was not pulled."""

    files: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


class _LeftOut(Exception):
    """One output that cannot be pulled; the others can."""


class _Changed(Exception):
    """The file became another one while it was read."""


def pull(agent: PatientAgent, job_id: str, target: Path, progress: Callable[[str], None]) -> Pulled:
    """Bring a job's outputs into ``target``; a file that is partly there is continued.

    Each file is whole and of one version, compared by SHA-256 with the host's. What cannot be
    pulled is in ``left_out``. Raises RigupError where ``target`` cannot be written to, and what
    the agent raises.
    """
    with _writing(target):
        target.mkdir(parents=True, exist_ok=True)
    outputs = agent.call(lambda client: client.list_outputs(job_id))
    puller = _Puller(agent, job_id, target, progress)
    for output in sorted(outputs, key=lambda output: output.kind == SYMLINK):
        puller.take(output)
    return puller.result


def check_path_of(output: OutputFile) -> None:
    """Raises UsageError for a path that is no plain one below a directory."""
    try:
        check_path(output.path)
    except ProtocolError as error:
        raise UsageError(f"the host names an output outside the target: {error}") from error


def local_path(target: Path, remote: str) -> Path:
    """Where an output lands below ``target``.

    Raises OSError for a loop of symlinks, and UsageError for a path that would leave it, by ``..``,
    an absolute path or a symlink that already lies there.
    """
    parts = PurePosixPath(remote).parts
    if not parts or remote.startswith("/") or ".." in parts or "\0" in remote:
        raise UsageError(f"the host names an output outside the target: {remote!r}")
    path = target.joinpath(*parts)
    try:
        inside = path.parent.resolve().is_relative_to(target.resolve())
    except RuntimeError as error:  # Python before 3.13, for a symlink that leads to itself
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    if not inside:
        raise UsageError(
            f"{path} leads outside {target} through a symbolic link",
            remedy="pull into an empty directory with --to",
        )
    return path


def stays_inside(link: str, destination: str) -> bool:
    """Whether a symlink at the relative path ``link`` leads into the same tree, whatever other
    symlinks of this kind are in it: upwards first and not above the top, then down."""
    parts = destination.split("/")
    up = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
    down = parts[up:]
    is_plain = bool(destination) and not any(part in ("", ".", "..") for part in down)
    own = link.rpartition("/")[2]
    return (
        is_plain
        and "\0" not in destination
        and up < len(link.split("/"))
        and not (up == 0 and parts[0] == own)  # it would lead to itself
    )


class _Puller:
    def __init__(
        self, agent: PatientAgent, job_id: str, target: Path, progress: Callable[[str], None]
    ) -> None:
        self.result = Pulled()
        self._agent = agent
        self._job_id = job_id
        self._target = target
        self._progress = progress
        self._written: dict[tuple[int, int], str] = {}
        self._parts: dict[Path, list[Path]] = {}
        self._noted = set(read_pulled_list(target))

    def take(self, output: OutputFile) -> None:
        try:
            with _left_out_by_system():
                path = self._place(output)
                if _is_reserved(output.path):
                    raise _LeftOut("rigup keeps files of this name itself")
                if output.kind == SKIPPED:
                    raise _LeftOut(output.reason or "it cannot be read")
                self._make_room(output.path)
                if output.kind == SYMLINK:
                    self._link(output, path)
                else:
                    self._file(output, path)
        except _LeftOut as reason:
            self.result.left_out.append((output.path, str(reason)))
        except OSError as error:
            raise _cannot_write(self._target, error) from error
        else:
            self.result.files.append(path)

    def _place(self, output: OutputFile) -> Path:
        """A symlink that lies here already keeps out what is below it, and nothing else. A name
        that could only come from a hostile host ends the pull."""
        check_path_of(output)
        try:
            return local_path(self._target, output.path)
        except UsageError as error:
            raise _LeftOut(error.message) from error

    def _note_pulled(self, output: OutputFile) -> None:
        """Before the file is there: whatever ends this pull, it is never taken for code."""
        if output.path in self._noted:
            return
        self._noted.add(output.path)
        with _opened(self._target / PULLED_LIST) as listed:
            end = listed.seek(0, os.SEEK_END)
            listed.seek(max(0, end - 1))
            torn = listed.read(1) not in (b"", b"\n")  # an earlier pull was killed in mid-line
            line = json.dumps(output.path).encode("ascii") + b"\n"
            listed.write(b"\n" + line if torn else line)

    def _file(self, output: OutputFile, path: Path) -> None:
        if _is_current(path, output):
            self._note_pulled(output)
            return
        if path.is_dir() and not path.is_symlink():
            raise _LeftOut(f"{path} is a directory here")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_same_name(output, path)
        self._clear_old_parts(path, output.identity)
        identity = output.identity
        for _ in range(VERSIONS_TRIED):
            partial = _partial(path, identity)
            try:
                identity = self._copy(output.path, partial, identity)
            except _Changed as changed:
                partial.unlink(missing_ok=True)
                identity = str(changed)
                continue
            modified_ns = read_identity(identity).modified_ns
            os.utime(partial, ns=(modified_ns, modified_ns))
            self._note_pulled(output)
            partial.replace(path)
            status = path.stat()
            self._written[status.st_dev, status.st_ino] = output.path
            self._progress(f"{output.path} ({status.st_size} bytes)")
            return
        raise _LeftOut("it changes all the time; pull it again later")

    def _make_room(self, name: str) -> None:
        """What is a directory on the host now may have been pulled as a symlink to another one,
        whose files must not be overwritten."""
        *directories, _ = name.split("/")
        for depth in range(len(directories)):
            place = "/".join(directories[: depth + 1])
            path = self._target / place
            if not path.is_symlink():
                continue
            if place not in self._noted:
                raise _LeftOut(f"{path} is a symlink here")
            path.unlink()

    def _clear_old_parts(self, path: Path, identity: str) -> None:
        """Of another version of this file, from a pull that broke off."""
        directory = path.parent
        if directory not in self._parts:
            self._parts[directory] = [
                Path(entry) for entry in os.scandir(directory) if entry.name.endswith(PART_SUFFIX)
            ]
        wanted = _partial(path, identity)
        for part in self._parts[directory]:
            if part != wanted and part.name.startswith(_part_prefix(path)):
                part.unlink(missing_ok=True)

    def _refuse_same_name(self, output: OutputFile, path: Path) -> None:
        """A file system that does not tell ``A`` from ``a`` keeps one of them."""
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if (other := self._written.get((status.st_dev, status.st_ino))) is not None:
                raise _LeftOut(f"it has the same name as {other} on this file system")

    def _copy(self, name: str, partial: Path, identity: str) -> str:
        """Complete ``partial``, which holds the first bytes of this version, and verify it; the
        version that it holds. Raises _Changed with the identity that the file has now."""
        with _opened(partial) as file:
            offset, size = file.seek(0, os.SEEK_END), read_identity(identity).size
            holes: list[range] = []
            while offset < size or size == offset == 0:
                part = self._read(name, offset)
                if part.whole:
                    file.write(part.data)
                    return part.identity
                if part.identity != identity or not (part.data or part.hole):
                    raise _Changed(part.identity)
                file.write(part.data)
                if part.hole:
                    holes.append(range(offset, offset + part.hole))
                offset += len(part.data) + part.hole
                file.seek(offset)
            file.truncate(size)
            file.flush()
            self._verify(name, file, identity, holes)
        return identity

    def _read(self, name: str, offset: int) -> OutputPart:
        return self._ask(lambda client: client.read_output(self._job_id, name, offset, CHUNK))

    def _hash(self, name: str, start: int, length: int) -> OutputHash:
        return self._ask(lambda client: client.hash_output(self._job_id, name, start, length))

    def _verify(self, name: str, file: BinaryIO, identity: str, holes: Sequence[range]) -> None:
        """Compare segment by segment; one that lies on no disk on either side needs none. The last
        answer tells that the file is still the same one."""
        size, start = read_identity(identity).size, 0
        last = max(0, (size - 1) // SEGMENT * SEGMENT)
        while start <= last:
            hole_end = next((hole.stop for hole in holes if start in hole), start)
            if start < last and (skipped := (hole_end - start) // SEGMENT * SEGMENT):
                start = min(last, start + skipped)
                continue
            length = min(SEGMENT, size - start)
            told = self._hash(name, start, length)
            if told.identity != identity or told.sha256 != _hash(file, start, length):
                raise _Changed(told.identity)
            start += SEGMENT

    def _ask(self, question: Callable[[AgentClient], T]) -> T:
        try:
            return self._agent.call(question)
        except AgentError as error:
            if error.code in GONE:
                raise _LeftOut(error.message) from error
            raise

    def _link(self, output: OutputFile, path: Path) -> None:
        destination = output.target or ""
        if not stays_inside(output.path, destination):
            raise _LeftOut(f"a symlink that leads outside: {destination!r}")
        if path.is_symlink():
            if os.readlink(path) == destination:
                self._note_pulled(output)
                return
        elif path.exists():
            raise _LeftOut(f"a symlink, and {path} is something else here")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _partial(path, destination)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(destination)
        self._note_pulled(output)
        temporary.replace(path)


def read_pulled_list(target: Path) -> Iterator[str]:
    """The paths that were pulled into ``target``; none where the list is missing or damaged."""
    try:
        lines = (target / PULLED_LIST).read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            path = json.loads(line)
            if isinstance(path, str):
                yield path


def _is_reserved(path: str) -> bool:
    """A host must not write the list that hides files from ``train``."""
    names = path.split("/")
    return PULLED_LIST in names or names[-1].endswith(PART_SUFFIX)


def _is_current(path: Path, output: OutputFile) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    there = path.stat()
    same_time = abs(there.st_mtime - output.modified_at) < TIME_MATCHES_S
    return there.st_size == output.size and same_time


def _partial(path: Path, version: str) -> Path:
    """Beside the file, named by the file's name and version: both may be too long for a name."""
    return path.with_name(f"{_part_prefix(path)}{_short_hash(version)}{PART_SUFFIX}")


def _part_prefix(path: Path) -> str:
    return f".{_short_hash(path.name)}-"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@contextlib.contextmanager
def _opened(partial: Path) -> Iterator[BinaryIO]:
    fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(fd, "r+b") as file:
        yield file


def _hash(file: BinaryIO, start: int, length: int) -> str:
    file.seek(start)
    digest = hashlib.sha256()
    while length > 0 and (data := file.read(min(CHUNK, length))):
        digest.update(data)
        length -= len(data)
    return digest.hexdigest()


@contextlib.contextmanager
def _left_out_by_system() -> Iterator[None]:
    """What the system refuses of one file, such as its name, leaves that file out."""
    try:
        yield
    except OSError as error:
        if error.errno in TARGET_UNUSABLE:
            raise
        raise _LeftOut(f"cannot be written here: {error.strerror or error}") from error
    except ValueError as error:
        raise _LeftOut(f"cannot be written here: {error}") from error


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(target, error) from error


def _cannot_write(target: Path, error: OSError) -> RigupError:
    return RigupError(
        f"cannot write below {target}: {error.strerror or error}",
        remedy="make room or choose another place with --to, then pull again: it goes on there",
    )
