from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from provisioner.containers.spec import ContainerSpec, Login, Mount, differences, run_command
from provisioner.errors import UsageError

LOGIN = Login("ana", 1000, 1001)


def spec(**changes: Any) -> ContainerSpec:
    base = ContainerSpec(
        name="torch",
        image="rigup/pytorch:abc",
        login=LOGIN,
        ssh_port=22200,
        keys_dir=PurePosixPath("/home/ana/.rigup/containers/torch"),
        host_name="lab01",
    )
    return replace(base, **changes)


def values(words: tuple[str, ...], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == option]


def test_ssh_is_published_on_loopback_only() -> None:
    assert values(run_command(spec()).words, "--publish") == ["127.0.0.1:22200:22"]


def test_files_belong_to_the_hosts_user() -> None:
    environment = values(run_command(spec()).words, "--env")
    assert {"RIGUP_USER=ana", "RIGUP_UID=1000", "RIGUP_GID=1001"} <= set(environment)


@pytest.mark.parametrize(
    ("login", "inside", "home"),
    [
        (Login("ana", 1000, 1000), "ana", "/home/ana"),
        (Login("root", 0, 0), "root", "/root"),
        (Login("toor", 0, 0), "root", "/root"),
        (Login("root", 1000, 1000), "user", "/home/user"),
        (Login("ana@corp.example", 70000, 70000), "user", "/home/user"),
        (Login("DOMAIN\\ana", 70000, 70000), "user", "/home/user"),
    ],
)
def test_the_login_name_inside(login: Login, inside: str, home: str) -> None:
    assert (login.inside, login.home) == (inside, home)


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ("none", []),
        ("all", ["all"]),
        ("0,1", ['"device=0,1"']),
        ("GPU-0a-1", ['"device=GPU-0a-1"']),
    ],
)
def test_gpus(gpus: str, words: list[str]) -> None:
    command = run_command(spec(gpus=gpus))
    assert values(command.words, "--gpus") == words
    hidden = "NVIDIA_VISIBLE_DEVICES=void" in values(command.words, "--env")
    assert hidden == (gpus == "none")


def test_two_users_may_have_a_container_of_one_name() -> None:
    other = spec(login=Login("bo", 1002, 1002))
    assert spec().docker_name != other.docker_name
    assert set(spec().volumes).isdisjoint(other.volumes)


def test_the_host_key_and_the_home_directory_are_on_volumes() -> None:
    mounts = values(run_command(spec()).words, "--mount")
    assert "type=volume,source=rigup-ssh-1000-torch-hostkey,target=/var/lib/rigup/ssh" in mounts
    assert "type=volume,source=rigup-ssh-1000-torch-home,target=/home/ana" in mounts
    assert any("/etc/rigup/ssh" in mount and "readonly" in mount for mount in mounts)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("/data:/data:ro", ["type=bind", "source=/data", "target=/data", "readonly"]),
        ("/a,b:/x", ["type=bind", "source=/a,b", "target=/x"]),
        ('/a"b:/x:rw', ["type=bind", 'source=/a"b', "target=/x"]),
        ("cache:/cache", ["type=volume", "source=cache", "target=/cache"]),
    ],
)
def test_mounts_survive_dockers_comma_separated_form(text: str, fields: list[str]) -> None:
    [row] = csv.reader(io.StringIO(Mount.parse(text).render()))
    assert row == fields


@pytest.mark.parametrize(
    "text", ["", "/data", ":/x", "/a:x", "/a:/b:rx", "/a:/b:ro:z", "/a:/b\n", "/a\nx:/b"]
)
def test_bad_mounts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="mount"):
        Mount.parse(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a b"},
        {"name": "--rm"},
        {"name": ""},
        {"gpus": "0;reboot"},
        {"gpus": '0" --privileged'},
        {"gpus": ""},
        {"image": "--privileged"},
        {"image": ""},
        {"ssh_port": 22},
        {"ssh_port": 70000},
        {"environment": (("HF_TOKEN", "x"),)},
        {"environment": (("A=B", "x"),)},
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        spec(**changes)


def test_hostile_values_stay_single_words() -> None:
    hostile = "x; touch /tmp/owned $(id)"
    command = run_command(
        spec(image="a/b:c", host_name=hostile, mounts=(Mount(f"/{hostile}", "/x"),))
    )
    assert f"'type=bind,source=/{hostile},target=/x'" in command.render()
    [name] = values(command.words, "--hostname")
    assert name == "x-touch-tmp-owned-id--torch"


def test_limits_are_raised_only_where_the_host_may() -> None:
    assert "memlock=-1" in values(run_command(spec()).words, "--ulimit")
    assert values(run_command(spec(large_limits=False)).words, "--ulimit") == []


def test_differences_name_what_changed() -> None:
    assert differences(spec(), spec().to_label()) == []
    assert differences(spec(gpus="all", shm_size="1g"), spec().to_label()) == [
        "gpus: none -> all",
        "shm_size: 8g -> 1g",
    ]
    assert differences(spec(), "{") == ["it was made by another version of rigup"]
