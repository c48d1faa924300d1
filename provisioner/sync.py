"""Freezing code: the files of a job's snapshot as they are now, listed and hashed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from provisioner.code_selection import LeftOut, git_top, refuse_unreadable, select_code
from provisioner.errors import UsageError
from remote_agent.protocol.snapshot import SnapshotEntry

MAX_FILES = 50_000
MAX_BYTES = 2 << 30
READ_CHUNK = 1 << 20
SYSTEM_DIRECTORIES = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/mnt", "/opt", "/proc", "/root"}
    | {"/run", "/sbin", "/srv", "/sys", "/usr", "/usr/bin", "/usr/local/bin", "/var"}
    | {"/tmp"}  # noqa: S108
)
"""Nobody keeps a project directly in one of these (hier(7))."""


@dataclass(frozen=True)
class CodeTree:
    """A frozen listing. ``files``: digest -> local file with that content at freezing time.
    ``left_out`` and ``revision``: see :class:`~provisioner.code_selection.Selection`."""

    root: Path
    entries: tuple[SnapshotEntry, ...]
    files: dict[str, Path]
    left_out: tuple[LeftOut, ...] = ()
    revision: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)


def code_root(script: Path) -> Path:
    """The directory that travels for ``script``: its Git work tree, else its own directory.

    Raises UsageError where that would be somebody's whole home directory, or the system's.
    """
    directory = script.resolve().parent
    root = git_top(directory) or directory
    if Path.home().resolve().is_relative_to(root) or str(root) in SYSTEM_DIRECTORIES:
        raise UsageError(
            f"{script.name} lies directly in {root}, and everything beside it would travel",
            remedy="put the script into a directory of its own",
        )
    return root


def freeze(root: Path, script: Path) -> CodeTree:
    """List and hash the code below ``root``. Of what Git ignores, only ``script`` travels.

    Raises UsageError when it is too large to be code, or when a file cannot be read.
    """
    selection = select_code(root)
    main = script.resolve().relative_to(root).as_posix()
    names = {*selection.names, main}
    entries: list[SnapshotEntry] = []
    files: dict[str, Path] = {}
    total = 0
    for name in sorted(names):
        _refuse_too_much(root, len(entries) + 1, total + _size(root / name))
        entry = _entry(root, name)
        if entry is None:
            continue
        entries.append(entry)
        total += entry.size
        if entry.digest is not None:
            files[entry.digest] = root / name
    left_out = tuple(one for one in selection.left_out if one.path != main)
    return CodeTree(root, tuple(entries), files, left_out, selection.revision)


def _entry(root: Path, name: str) -> SnapshotEntry | None:
    path = root / name
    if path.is_symlink():
        return SnapshotEntry(path=_posix(name), target=os.readlink(path))
    if not path.is_file():
        return None  # deleted but still tracked, or a socket, pipe or device
    digest, size = _hash(path)
    mode = 0o755 if os.access(path, os.X_OK) else 0o644
    return SnapshotEntry(path=_posix(name), mode=mode, digest=digest, size=size)


def _posix(name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(
            f"the file name {os.fsencode(name)!r} is not UTF-8", remedy="rename or ignore it"
        ) from None
    return name


def _hash(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(READ_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        refuse_unreadable(error)
    return digest.hexdigest(), size


def _size(path: Path) -> int:
    """Before it is read: a disk image must not be hashed for an hour and then refused."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else 0


def _refuse_too_much(root: Path, count: int, total: int) -> None:
    if count > MAX_FILES or total > MAX_BYTES:
        raise UsageError(
            f"{root} is too much for a code snapshot: over {MAX_FILES} files or "
            f"{MAX_BYTES >> 30} GiB",
            remedy="keep data out with .gitignore (in a Git repository) and mount it on the host",
        )
