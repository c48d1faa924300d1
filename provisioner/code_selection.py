"""Which files are a job's code: what Git and the ignore files say, and never a secret by accident.

In a Git repository: what Git tracks or would track. Elsewhere: every file below the directory but
what its .gitignore files name, caches and virtual environments. In both, .rigupignore files (the
same syntax) leave out more, and their ``!`` lines bring back what only rigup leaves out.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pathspec import GitIgnoreSpec

from provisioner.errors import UsageError
from provisioner.pull import PART_SUFFIX, PULLED_LIST, read_pulled_list
from remote_agent.protocol.snapshot import MAX_DEPTH

GITIGNORE = ".gitignore"
RIGUPIGNORE = ".rigupignore"

SKIPPED_DIRECTORIES = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "node_modules", ".mypy_cache"}
    | {".ruff_cache", ".pytest_cache", ".tox", ".ipynb_checkpoints"}
)
SECRET_DIRECTORIES = frozenset({".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", ".gcloud"})
SECRET_NAMES = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".git-credentials"),
    *("id_rsa.*", "id_ed25519.*", "id_ecdsa.*", ".env-*", ".env~", ".vault-token", "hf_token"),
    *("application_default_credentials.json", "gcp-key.json", "*.tfstate", "*.pem.*"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk"),
    *("*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    *(".npmrc", ".pypirc", ".pgpass", ".my.cnf", ".htpasswd", ".boto", ".s3cfg"),
    *("credentials", "credentials.json", "credentials.yaml", "credentials.yml"),
    *("client_secret*.json", "service_account*.json", "service-account*.json"),
    *(
        "ssh_host_*_key",
        "deploy_key",
        "*_deploy_key",
        "kaggle.json",
        "token",
        "token.txt",
        "*.token",
    ),
    *("shadow", "shadow-", "gshadow", "gshadow-"),
    *("kubeconfig", "*.kubeconfig", "secrets.json", "secrets.yaml", "secrets.yml", "secrets.toml"),
)
"""Names of files that commonly hold keys, passwords or tokens."""
NO_SECRETS = (
    *("id_rsa.pub", "id_ed25519.pub", "id_ecdsa.pub", ".env-example"),
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
)

IGNORED, SECRET, PULLED = "ignored", "may hold a secret", "pulled results"

GIT_PLACES = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})


@dataclass(frozen=True)
class LeftOut:
    """A path below the root that does not travel; a directory ends with a slash."""

    path: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """``names``: relative paths of what travels, sorted. ``revision``: Git's commit, with
    ``+changes`` where the files differ from it; None outside Git and before the first commit."""

    names: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    revision: str | None = None


def select_code(root: Path) -> Selection:
    """Raises UsageError where the files cannot be listed."""
    in_git = git_top(root) is not None
    chosen = _Chooser(root, None if not in_git else set(_tracked_files(root)))
    candidates = _git_files(root) if in_git else _walk(root, chosen)
    names = [name for name in sorted(set(candidates)) if chosen.takes(name)]
    left_out = [*chosen.left_out, *(_ignored_by_git(root) if in_git else ())]
    return Selection(tuple(names), tuple(left_out), _revision(root) if in_git else None)


def git_top(directory: Path) -> Path | None:
    """The work tree that holds ``directory``; None outside Git. Raises UsageError where Git does
    not trust it."""
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


def refuse_unreadable(error: OSError) -> NoReturn:
    raise UsageError(
        f"cannot read {error.filename}: {error.strerror}", remedy="make it readable, or ignore it"
    ) from error


def _refuse_depth(path: str) -> None:
    if path.count("/") > MAX_DEPTH:
        raise UsageError(
            f"{path[:40]}… lies over {MAX_DEPTH} directories deep", remedy="name it in .gitignore"
        )


class _Chooser:
    """Decides about each path; remembers what it left out."""

    def __init__(self, root: Path, tracked: set[str] | None) -> None:
        """``tracked``: what Git tracks; None outside Git, where .gitignore files count here."""
        self.left_out: list[LeftOut] = []
        self._tracked = tracked
        self._root = root
        self._rules = _IgnoreRules(root, RIGUPIGNORE)
        self._git_rules = _IgnoreRules(root, GITIGNORE) if tracked is None else None
        self._pulled: dict[str, frozenset[str]] = {}

    def enters(self, directory: str) -> bool:
        """Whether a directory, outside Git, can hold code."""
        name = directory.rpartition("/")[2]
        if name in SKIPPED_DIRECTORIES:
            return False
        reason = self._objection(f"{directory}/")
        if reason is None and name in SECRET_DIRECTORIES and not self._is_wanted(f"{directory}/"):
            reason = SECRET
        if reason is not None:
            self.left_out.append(LeftOut(f"{directory}/", reason))
        return reason is None

    def takes(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        if name == PULLED_LIST or name.endswith(PART_SUFFIX):
            return False
        reason = self._objection(path)
        meant = self._is_wanted(path) or path in (self._tracked or ())
        if reason is None and not meant:
            if path in self._pulled_near(path):
                reason = PULLED
            elif _may_be_secret(path):
                reason = SECRET
        if reason is not None:
            self.left_out.append(LeftOut(path, reason))
        return reason is None

    def _objection(self, path: str) -> str | None:
        if self._rules.verdict(path):
            return IGNORED
        wanted = self._rules.verdict(path) is False
        by_git = self._git_rules is not None and self._git_rules.verdict(path)
        return IGNORED if by_git and not wanted else None

    def _is_wanted(self, path: str) -> bool:
        return self._rules.verdict(path) is False

    def _pulled_near(self, path: str) -> frozenset[str]:
        """What was pulled into a directory on the way to ``path``."""
        parts = path.split("/")[:-1]
        found: frozenset[str] = frozenset()
        for depth in range(len(parts) + 1):
            found |= self._pulled_into("/".join(parts[:depth]))
        return found

    def _pulled_into(self, directory: str) -> frozenset[str]:
        if directory not in self._pulled:
            prefix = f"{directory}/" if directory else ""
            listed = read_pulled_list(self._root / directory)
            self._pulled[directory] = frozenset(prefix + name for name in listed)
        return self._pulled[directory]


class _IgnoreRules:
    """The ignore files of one name below a root; the one nearest to a path decides. Only the
    directories on the way to a path are looked at: what Git ignores may hold millions of files."""

    def __init__(self, root: Path, file_name: str) -> None:
        self._root = root
        self._file_name = file_name
        self._specs: dict[str, GitIgnoreSpec | None] = {}
        self._ignored: dict[str, bool] = {"": False}

    def verdict(self, path: str) -> bool | None:
        """True: ignored; False: expressly not; None: no pattern matches. A directory's path ends
        with a slash. What lies in an ignored directory is ignored."""
        parent = path.rstrip("/").rpartition("/")[0]
        return True if self._is_ignored(parent) else self._nearest(path)

    def _is_ignored(self, directory: str) -> bool:
        if directory not in self._ignored:
            self._ignored[directory] = bool(self.verdict(f"{directory}/"))
        return self._ignored[directory]

    def _nearest(self, path: str) -> bool | None:
        parts = path.rstrip("/").split("/")
        for depth in reversed(range(len(parts))):
            spec = self._spec("/".join(parts[:depth]))
            if spec is None:
                continue
            rest = "/".join(parts[depth:]) + ("/" if path.endswith("/") else "")
            found = spec.check_file(rest).include
            if found is not None:
                return found
        return None

    def _spec(self, directory: str) -> GitIgnoreSpec | None:
        if directory not in self._specs:
            self._specs[directory] = self._read(self._root / directory / self._file_name)
        return self._specs[directory]

    def _read(self, path: Path) -> GitIgnoreSpec | None:
        try:
            lines = path.read_text("utf-8", "surrogateescape").splitlines()
            return GitIgnoreSpec.from_lines(lines)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            refuse_unreadable(error)
        except (ValueError, re.error) as error:
            raise UsageError(f"{path}: {error}", remedy="see gitignore(5)") from error


def _walk_directories(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for directory, below, names in os.walk(root, onerror=refuse_unreadable):
        below[:] = sorted(name for name in below if name not in SKIPPED_DIRECTORIES)
        yield directory, below, names


def _walk(root: Path, chosen: _Chooser | None = None) -> Iterator[str]:
    """Files, and symlinks to directories; of ignored and secret directories nothing."""
    for directory, below, names in _walk_directories(root):
        place = Path(directory).relative_to(root).as_posix()
        prefix = "" if place == "." else f"{place}/"
        links = [name for name in below if Path(directory, name).is_symlink()]
        if chosen is not None:
            below[:] = [name for name in below if name in links or chosen.enters(prefix + name)]
        _refuse_depth(prefix)
        yield from (prefix + name for name in (*names, *links))


def _git_files(root: Path) -> Iterator[str]:
    """Tracked and untracked files that are not ignored; submodules by the same rule."""
    for name in _git_list(root, "--cached", "--others", "--exclude-standard"):
        _refuse_depth(name)
        path = root / name
        if path.is_dir() and not path.is_symlink():
            inner = _git_files(path) if (path / ".git").exists() else _walk(path)
            yield from (f"{name}/{below}" for below in inner)
        else:
            yield name


def _tracked_files(root: Path) -> Iterator[str]:
    """What Git tracks, in submodules as well."""
    for name in _git_list(root, "--cached"):
        path = root / name
        if path.is_dir() and not path.is_symlink() and (path / ".git").exists():
            yield from (f"{name}/{below}" for below in _tracked_files(path))
        else:
            yield name


def _git_list(root: Path, *options: str) -> set[str]:
    done = _git(root, "ls-files", "-z", *options)
    if done.returncode != 0:
        raise UsageError(f"git cannot list {root}: {done.stderr.decode(errors='replace').strip()}")
    return {os.fsdecode(raw).rstrip("/") for raw in done.stdout.split(b"\0") if raw}


def _ignored_by_git(root: Path) -> Iterator[LeftOut]:
    done = _git(
        root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"
    )
    for raw in sorted(done.stdout.split(b"\0")):
        name = os.fsdecode(raw)
        if name and name.rstrip("/").rpartition("/")[2] not in SKIPPED_DIRECTORIES:
            yield LeftOut(name, IGNORED)


def _revision(root: Path) -> str | None:
    done = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if done.returncode != 0:
        return None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no").stdout.strip()
    return done.stdout.decode("ascii", "replace").strip() + ("+changes" if changed else "")


def _git(directory: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Git at ``directory``, whatever repository the caller itself runs in (a Git hook, say)."""
    environment = {key: value for key, value in os.environ.items() if key not in GIT_PLACES}
    return subprocess.run(
        ["git", "-C", str(directory), *words],
        capture_output=True,
        check=False,
        env={**environment, "LC_ALL": "C"},
    )


def _may_be_secret(path: str) -> bool:
    *directories, name = path.split("/")
    if SECRET_DIRECTORIES.intersection(directories):
        return True
    lower = name.lower()
    return lower not in NO_SECRETS and any(
        fnmatch.fnmatchcase(lower, pattern) for pattern in SECRET_NAMES
    )
