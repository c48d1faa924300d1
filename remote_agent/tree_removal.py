"""Delete a directory and everything below it, however deep and whatever its modes are."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import List, Optional, Tuple

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NAMED = 3

Inode = Tuple[int, int]


class NotRemoved(OSError):
    """Some files could not be deleted; everything else was. ``paths`` names them."""

    def __init__(self, root: str, paths: List[str], number: int) -> None:
        named = ", ".join(paths[:NAMED])
        more = " and %d more" % (len(paths) - NAMED) if len(paths) > NAMED else ""
        super().__init__(
            number,
            "cannot delete %s%s (%s); delete them with: sudo rm -rf %s"
            % (named, more, os.strerror(number), root),
        )
        self.paths = paths


@dataclass
class _Level:
    """A directory on the way down: its name, its parent's inode, and what is left to visit."""

    name: str
    parent: Inode
    subdirectories: List[str] = field(default_factory=list)


def remove_tree(path: str) -> None:
    """Delete the directory ``path`` and everything below it.

    Symlinks are deleted, never followed. Directories that their owner made unwritable are made
    writable first. Uses two descriptors, however deep the tree is. Other file systems mounted
    below are not entered. Raises FileNotFoundError where ``path`` is not there, and NotRemoved
    after everything else was deleted.
    """
    above, name = os.path.split(os.path.abspath(path))
    fd = os.open(above, DIRECTORY & ~os.O_NOFOLLOW)
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
        removal = _Removal(above, fd)
    except BaseException:
        os.close(fd)
        raise
    try:
        removal.run(name)
    finally:
        os.close(removal.fd)
    if removal.stuck:
        raise NotRemoved(path, removal.stuck, removal.error or errno.EACCES)


class _Removal:
    """``fd`` is the directory that the walk is in; ``levels`` leads to it."""

    def __init__(self, above: str, fd: int) -> None:
        self.fd = fd
        self.stuck: List[str] = []
        self.error: Optional[int] = None
        self._above = above
        self._levels: List[_Level] = []
        self._device: Optional[int] = None

    def run(self, name: str) -> None:
        self._enter(name)
        while self._levels:
            level = self._levels[-1]
            if level.subdirectories:
                self._enter(level.subdirectories.pop())
            else:
                self._leave()

    def _enter(self, name: str) -> None:
        """Go into a directory and delete its files. One that cannot be entered is only noted."""
        try:
            child = _open_directory(name, self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            self._rmdir(name, error)
            return
        device = os.fstat(child).st_dev
        if self._device not in (None, device):
            os.close(child)
            self._note(name, OSError(errno.EXDEV, ""))
            return
        self._device = device
        self._levels.append(_Level(name, _inode(self.fd)))
        os.close(self.fd)
        self.fd = child
        self._delete_files(self._levels[-1])

    def _delete_files(self, level: _Level) -> None:
        try:
            with os.scandir(self.fd) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        level.subdirectories.append(entry.name)
                    else:
                        self._unlink(entry.name)
        except OSError as error:
            self._note("", error)

    def _leave(self) -> None:
        level = self._levels.pop()
        parent = os.open("..", DIRECTORY, dir_fd=self.fd)
        os.close(self.fd)
        self.fd = parent
        if _inode(parent) != level.parent:
            raise OSError(errno.ESTALE, "moved while it was deleted: %s" % self._path(level.name))
        self._rmdir(level.name)

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            self._note(name, error)

    def _rmdir(self, name: str, problem: Optional[OSError] = None) -> None:
        """``problem``: why it could not be entered; it may be empty all the same."""
        try:
            os.rmdir(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            path = self._path(name)
            if not any(stuck.startswith(path + "/") for stuck in self.stuck[-1:]):
                self._note(name, problem or error)

    def _note(self, name: str, error: OSError) -> None:
        self.stuck.append(self._path(name))
        self.error = self.error or error.errno

    def _path(self, name: str) -> str:
        names = [level.name for level in self._levels]
        return os.path.join(self._above, *names, name).rstrip("/")


def _open_directory(name: str, parent: int) -> int:
    """A directory of ours that can be read and emptied."""
    try:
        fd = os.open(name, DIRECTORY, dir_fd=parent)
    except PermissionError:
        _unlock(name, parent)
        return os.open(name, DIRECTORY, dir_fd=parent)
    if os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        try:
            os.fchmod(fd, stat.S_IRWXU)
        except OSError:
            return fd  # of another user: its files will tell
    return fd


def _unlock(name: str, parent: int) -> None:
    """chmod of exactly this directory: /proc leads to what the descriptor is, never further."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod("/proc/self/fd/%d" % fd, stat.S_IRWXU)
    finally:
        os.close(fd)


def _inode(fd: int) -> Inode:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
