"""Freezing code: which files make up a job's snapshot, and bringing outputs back.

In a Git repository: what Git tracks or would track (``.gitignore`` is honoured). Elsewhere: every
file below the directory but caches and virtual environments.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from provisioner.errors import UsageError
from remote_agent.protocol.snapshot import SnapshotEntry

SKIPPED_DIRECTORIES = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "node_modules", ".mypy_cache"}
    | {".ssh", ".aws", ".gnupg", ".kube", ".netrc"}
    | {".ruff_cache", ".pytest_cache", ".tox", ".ipynb_checkpoints"}
)
GIT_PLACES = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
MAX_FILES = 50_000
MAX_BYTES = 2 << 30
READ_CHUNK = 1 << 20


@dataclass(frozen=True)
class CodeTree:
    """A frozen listing. ``files``: digest -> local file with that content at freezing time."""

    root: Path
    entries: tuple[SnapshotEntry, ...]
    files: dict[str, Path]


def code_root(script: Path) -> Path:
    """The directory that travels for ``script``: its Git work tree, else its own directory.

    Raises UsageError where that would be somebody's whole home directory.
    """
    directory = script.resolve().parent
    root = _git_top(directory) or directory
    if Path.home().resolve().is_relative_to(root):
        raise UsageError(
            f"{script.name} lies directly in {root}, and everything beside it would travel",
            remedy="put the script into a directory of its own",
        )
    return root


def freeze(root: Path, script: Path) -> CodeTree:
    """List and hash the code below ``root``. Of what Git ignores, only ``script`` travels.

    Raises UsageError when it is too large to be code, or when a file cannot be read.
    """
    names = set(_git_files(root) if _git_top(root) else _walk(root))
    names.add(script.resolve().relative_to(root).as_posix())
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
    return CodeTree(root, tuple(entries), files)


def _git_top(directory: Path) -> Path | None:
    if shutil.which("git") is None:
        return None
    done = _git(directory, "rev-parse", "--show-toplevel")
    if b"dubious ownership" in done.stderr:
        raise UsageError(
            f"Git does not trust the repository of {directory}: another user owns it, so what it "
            "ignores is unknown",
            remedy=f"git config --global --add safe.directory {shlex.quote(str(directory))}",
        )
    return Path(os.fsdecode(done.stdout).rstrip("\n")) if done.returncode == 0 else None


def _git_files(root: Path) -> Iterator[str]:
    """Tracked and untracked files that are not ignored; submodules by the same rule."""
    done = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if done.returncode != 0:
        raise UsageError(f"git cannot list {root}: {done.stderr.decode(errors='replace').strip()}")
    for raw in set(done.stdout.split(b"\0")) - {b""}:
        name = os.fsdecode(raw).rstrip("/")
        path = root / name
        if path.is_dir() and not path.is_symlink():
            inner = _git_files(path) if (path / ".git").exists() else _walk(path)
            yield from (f"{name}/{below}" for below in inner)
        else:
            yield name


def _git(directory: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Git at ``directory``, whatever repository the caller itself runs in (a Git hook, say)."""
    environment = {key: value for key, value in os.environ.items() if key not in GIT_PLACES}
    return subprocess.run(
        ["git", "-C", str(directory), *words],
        capture_output=True,
        check=False,
        env={**environment, "LC_ALL": "C"},
    )


def _walk(root: Path) -> Iterator[str]:
    for directory, below, names in os.walk(root, onerror=_refuse_unreadable):
        below[:] = [name for name in below if name not in SKIPPED_DIRECTORIES]
        links = [name for name in below if Path(directory, name).is_symlink()]
        for name in (*names, *links):
            yield str(Path(directory, name).relative_to(root))


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
        _refuse_unreadable(error)
    return digest.hexdigest(), size


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise UsageError(
        f"cannot read {error.filename}: {error.strerror}", remedy="make it readable, or ignore it"
    ) from error


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
