"""Ignore files, secrets and pulled results: what does not travel as code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioner.code_selection import IGNORED, PULLED, SECRET, Selection, select_code
from provisioner.errors import UsageError
from provisioner.pull import PULLED_LIST
from remote_agent.tree_removal import remove_tree


@pytest.fixture(autouse=True)
def no_git_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no-gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(root: Path, *words: str) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture(params=["plain directory", "git"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made = tmp_path / "code"
    made.mkdir()
    if request.param == "git":
        git(made, "init", "-q")
    return made


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def reasons(selection: Selection) -> dict[str, str]:
    return {one.path: one.reason for one in selection.left_out}


def test_ignore_files_count_in_and_outside_git(root: Path) -> None:
    write(root, {".gitignore": "*.log\n/data/\n", ".rigupignore": "*.bin\n!keep.bin\n"})
    write(root, {"sub/.gitignore": "!important.log\nlocal\n", "train.py": ""})
    write(root, {"run.log": "", "data/big": "", "sub/data/small": "", "sub/important.log": ""})
    write(root, {"sub/local": "", "local": "", "a.bin": "", "keep.bin": "", "sub/b.bin": ""})
    selection = select_code(root)
    assert set(selection.names) == {
        *(".gitignore", ".rigupignore", "sub/.gitignore", "train.py"),
        *("sub/data/small", "sub/important.log", "local", "keep.bin"),
    }
    assert reasons(selection) == dict.fromkeys(
        ["run.log", "data/", "sub/local", "a.bin", "sub/b.bin"], IGNORED
    )


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", "sub/.netrc", "id_ed25519", "deploy.pem", "tls.key"),
        *(".ssh/config", "sub/.aws/credentials", "credentials.json", ".npmrc", ".pypirc"),
        *("deploy_key", "ssh_host_rsa_key", "kaggle.json", "token.txt"),
        *("SERVER.KEY", "kubeconfig", "my-service_account.json", "service_account-x.json"),
    ],
)
def test_what_may_be_a_secret_stays(root: Path, name: str) -> None:
    write(root, {name: "token", "train.py": ""})
    selection = select_code(root)
    if name == "my-service_account.json":
        assert name in selection.names
        return
    assert selection.names == ("train.py",)
    assert set(reasons(selection).values()) == {SECRET}


@pytest.mark.parametrize(
    "name", ["id_rsa.pub", ".env.example", "public.txt", "keys.py", "model.keymap"]
)
def test_what_is_no_secret_travels(root: Path, name: str) -> None:
    write(root, {name: ""})
    assert select_code(root).names == (name,)


def test_a_secret_that_is_asked_for_travels(root: Path) -> None:
    write(root, {".env": "", ".ssh/config": "", ".rigupignore": "!.env\n"})
    assert select_code(root).names == (".env", ".rigupignore")


def test_a_secret_that_git_tracks_travels(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, {"tests/server.key": "test", ".env": ""})
    git(tmp_path, "add", "tests/server.key")
    assert select_code(tmp_path).names == ("tests/server.key",)


def test_what_was_pulled_is_never_sent(root: Path) -> None:
    pulled = "".join(json.dumps(name) + "\n" for name in ("model.bin", "ckpt/1"))
    write(root, {"outputs/job/model.bin": "", "outputs/job/ckpt/1": "", "outputs/job/own": ""})
    write(root, {f"outputs/job/{PULLED_LIST}": pulled, "model.bin": "mine"})
    selection = select_code(root)
    assert selection.names == ("model.bin", "outputs/job/own")
    assert reasons(selection) == dict.fromkeys(
        ["outputs/job/model.bin", "outputs/job/ckpt/1"], PULLED
    )


def test_a_pull_into_the_code_itself_hides_no_code(root: Path) -> None:
    write(root, {PULLED_LIST: json.dumps("model.bin") + "\n", "model.bin": "", "train.py": ""})
    assert select_code(root).names == ("train.py",)


@pytest.mark.parametrize("listed", ["", "[1]\n", "{\n", "\0", "[" * 3000])
def test_a_damaged_list_of_pulled_files_hides_nothing(root: Path, listed: str) -> None:
    write(root, {PULLED_LIST: listed, "train.py": ""})
    assert select_code(root).names == ("train.py",)


@pytest.mark.parametrize("pattern", ["!", "[z-a]"])
def test_an_ignore_file_that_cannot_be_understood_is_named(root: Path, pattern: str) -> None:
    write(root, {".rigupignore": f"{pattern}\n", "train.py": ""})
    with pytest.raises(UsageError, match=r"\.rigupignore"):
        select_code(root)


def test_the_revision_tells_changes(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, {"train.py": "1"})
    assert select_code(tmp_path).revision is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    clean = select_code(tmp_path).revision
    assert clean is not None
    assert len(clean) == 40
    write(tmp_path, {"train.py": "2"})
    assert select_code(tmp_path).revision == f"{clean}+changes"


def test_the_half_of_a_pulled_file_is_no_code(root: Path) -> None:
    write(root, {"train.py": "", "outputs/job/.0123-4567.rigup-part": "half"})
    assert select_code(root).names == ("train.py",)


def test_directories_without_end_are_refused_with_a_remedy(root: Path) -> None:
    place = os.open(root, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)
    try:
        with pytest.raises(UsageError, match="directories deep") as raised:
            select_code(root)
    finally:
        remove_tree(str(root / "d"))  # too deep for pytest's own removal
    assert ".gitignore" in str(raised.value.remedy)


def test_a_tracked_directory_that_became_a_file_is_no_obstacle(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, {"conf/a": "", "train.py": ""})
    git(tmp_path, "add", ".")
    (tmp_path / "conf/a").unlink()
    (tmp_path / "conf").rmdir()
    (tmp_path / "conf").write_text("now a file")
    assert "conf" in select_code(tmp_path).names


def test_what_a_submodule_tracks_travels(tmp_path: Path) -> None:
    inner = tmp_path / "repo" / "sub"
    inner.mkdir(parents=True)
    git(inner, "init", "-q")
    write(inner, {"certs/cacert.pem": "", ".env": ""})
    git(inner, "add", "certs")
    git(inner, "commit", "-qm", "x")
    git(inner.parent, "init", "-q")
    git(inner.parent, "add", "sub")
    assert select_code(inner.parent).names == ("sub/certs/cacert.pem",)


def test_pulled_results_that_git_tracks_travel(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, {"results/m.json": "", f"results/{PULLED_LIST}": json.dumps("m.json") + "\n"})
    git(tmp_path, "add", "results/m.json")
    assert select_code(tmp_path).names == ("results/m.json",)
