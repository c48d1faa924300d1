"""What travels with a job, and where what comes back may land."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioner import code_selection, sync
from provisioner.code_selection import Selection
from provisioner.errors import UsageError
from provisioner.sync import CodeTree, code_root, freeze
from remote_agent.protocol.snapshot import check_entries


@pytest.fixture(autouse=True)
def no_git_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no-gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(directory: Path, *words: str) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    directory.mkdir(parents=True, exist_ok=True)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    subprocess.run(["git", *identity, *words], cwd=directory, check=True, capture_output=True)


def write(root: Path, **files: str) -> Path:
    """Files by name; ``__`` stands for a slash, ``_dot_`` for a leading dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    git(root, "init", "-q")
    return root


def frozen(root: Path) -> CodeTree:
    """The code of the script ``main``, which is made where it is missing."""
    (root / "main").touch()
    return freeze(root, root / "main")


def names(tree: CodeTree) -> list[str]:
    """What travels beside the script."""
    check_entries(tree.entries)
    paths = [entry.path for entry in tree.entries]
    assert "main" in paths
    return [path for path in paths if path != "main"]


def test_git_decides_what_travels(repo: Path) -> None:
    write(repo, train="a", pkg__model="b", new="c", data__big="d", run_log="e", gone="f")
    write(repo, _dot_gitignore="data/\n*_log\n", pkg___dot_gitignore="secret\n", pkg__secret="g")
    git(repo, "add", "train", "pkg", "gone")
    (repo / "gone").unlink()
    assert names(frozen(repo)) == [".gitignore", "new", "pkg/.gitignore", "pkg/model", "train"]


def test_a_tracked_file_travels_though_a_pattern_matches_it(repo: Path) -> None:
    write(repo, kept="a", _dot_gitignore="kept\n")
    git(repo, "add", "--force", "kept")
    assert "kept" in names(frozen(repo))


def test_a_changed_file_travels_as_it_is_now(repo: Path) -> None:
    write(repo, train="old")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "x")
    write(repo, train="new")
    [entry] = [entry for entry in frozen(repo).entries if entry.path == "train"]
    assert entry.digest == hashlib.sha256(b"new").hexdigest()
    assert entry.size == 3


def test_content_modes_and_links(repo: Path) -> None:
    write(repo, plain="same", program="#!/bin/sh\n", copy="same")
    (repo / "program").chmod(0o700)
    (repo / "link").symlink_to("../outside")
    (repo / "dir_link").symlink_to("/etc")
    tree = frozen(repo)
    entries = {entry.path: entry for entry in tree.entries}
    assert (entries["plain"].mode, entries["program"].mode) == (0o644, 0o755)
    assert entries["link"].target == "../outside"
    assert entries["dir_link"].target == "/etc"
    assert entries["link"].digest is None
    assert len(tree.files) == 3, "equal files travel once (the script is empty)"
    assert sum(entry.size for entry in tree.entries) == 4 + 4 + 10


def test_pipes_and_sockets_stay(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path, file="x")
    assert names(frozen(tmp_path)) == ["file"]


def test_a_repository_inside_goes_by_its_own_rules(repo: Path) -> None:
    inner = repo / "vendor" / "lib"
    git(inner, "init", "-q")
    write(inner, code="a", junk="b", _dot_gitignore="junk\n")
    write(repo, train="c")
    assert names(frozen(repo)) == ["train", "vendor/lib/.gitignore", "vendor/lib/code"]


def test_a_submodule_travels_with_its_files(repo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(other, "init", "-q")
    write(other, code="a")
    git(other, "add", ".")
    git(other, "commit", "-qm", "x")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "sub")
    assert names(frozen(repo)) == [".gitmodules", "sub/code"]


def test_a_script_that_git_ignores_travels_and_nothing_else_ignored_does(repo: Path) -> None:
    write(repo, _dot_gitignore="main\nsecret\n", secret="a", helper="b")
    tree = frozen(repo)
    assert "main" in {entry.path for entry in tree.entries}
    assert names(tree) == [".gitignore", "helper"]


def test_a_directory_below_the_top_is_its_own_root(repo: Path) -> None:
    write(repo, outside="a", pkg__inside="b")
    assert names(frozen(repo / "pkg")) == ["inside"]


def test_without_git_all_but_caches_travels(tmp_path: Path) -> None:
    write(tmp_path, train="a", sub__file="b", _dot_env="c")
    for skipped in (".git", ".venv", "__pycache__", "node_modules"):
        (tmp_path / "sub" / skipped).mkdir(parents=True)
        (tmp_path / "sub" / skipped / "x").write_text("x")
    (tmp_path / "loop").symlink_to(".")
    assert names(frozen(tmp_path)) == ["loop", "sub/file", "train"]


def test_without_a_git_program_the_directory_is_walked(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repo, train="a")
    monkeypatch.setattr(code_selection.shutil, "which", lambda name: None)
    assert names(frozen(repo)) == ["train"]
    assert code_root(repo / "train") == repo


def test_the_root_of_a_script(repo: Path, tmp_path: Path) -> None:
    write(repo, pkg__deep__train="a")
    write(tmp_path, alone__train="b")
    assert code_root(repo / "pkg" / "deep" / "train") == repo
    assert code_root(tmp_path / "alone" / "train") == tmp_path / "alone"


def test_a_git_hook_does_not_change_what_travels(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path / "other", "init", "-q")
    write(repo, train="a")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert code_root(repo / "train") == repo
    assert names(frozen(repo)) == ["train"]


def test_a_repository_that_git_does_not_trust_is_no_plain_directory(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repo, secret="x", _dot_gitignore="secret\n")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UsageError, match="does not trust") as raised:
        frozen(repo)
    assert "safe.directory" in str(raised.value.remedy)


@pytest.mark.parametrize("name", ["größe.py", "two words", "line\nbreak", "'\"", "-rf", "日本"])
def test_unusual_names(repo: Path, name: str) -> None:
    (repo / name).write_text("x")
    assert names(frozen(repo)) == [name]


def test_a_name_that_is_not_utf8_is_refused(repo: Path, tmp_path: Path) -> None:
    for root in (repo, tmp_path / "plain"):
        root.mkdir(exist_ok=True)
        (root / os.fsdecode(b"caf\xe9.py")).write_text("x")
        with pytest.raises(UsageError, match="is not UTF-8"):
            frozen(root)


def test_too_many_files_are_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "MAX_FILES", 3)
    for number in range(2):
        (tmp_path / str(number)).touch()
    assert len(frozen(tmp_path).entries) == 3
    (tmp_path / "one more").touch()
    with pytest.raises(UsageError, match="too much for a code snapshot") as raised:
        frozen(tmp_path)
    assert ".gitignore" in str(raised.value.remedy)


def test_a_disk_image_is_refused_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "image").open("wb") as file:
        file.truncate(sync.MAX_BYTES + 1)
    monkeypatch.setattr(sync, "_hash", lambda path: pytest.fail("it was read"))
    with pytest.raises(UsageError, match="too much"):
        frozen(tmp_path)


def test_what_cannot_be_read_is_an_error_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the refusal is played."""
    write(tmp_path, sub__file="x")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match=r"cannot read .*sub: Permission denied"):
        frozen(tmp_path)


def test_a_file_that_vanishes_meanwhile_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "select_code", lambda root: Selection(("file", "main"), ()))
    monkeypatch.setattr(sync, "_size", lambda path: 0)
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == "file")
    with pytest.raises(UsageError, match=r"cannot read .*file: No such file"):
        frozen(tmp_path)


def test_a_script_in_the_home_directory_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "train.py").touch()
    with pytest.raises(UsageError, match="everything beside it"):
        code_root(tmp_path / "train.py")


def test_secrets_beside_a_script_outside_git_stay(tmp_path: Path) -> None:
    write(tmp_path, _dot_ssh__id_ed25519="key", train="a")
    assert names(frozen(tmp_path)) == ["train"]


@pytest.mark.parametrize("script", ["/etc/hostname", "/usr/bin/env", "/tmp/train.py"])
def test_a_script_in_a_directory_of_the_system_is_refused(script: str) -> None:
    with pytest.raises(UsageError, match="everything beside it would travel"):
        code_root(Path(script).parent / "train.py")
