"""Repository files and keys of dnf and zypper."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from situations import facts_of

from inventory import Host
from inventory.model import Mirrors, Repository
from provisioner import data
from provisioner.actions import WriteFile
from provisioner.command import Command
from provisioner.errors import BlockedError
from provisioner.facts import OS, Facts
from provisioner.platforms import VendorSource, platform_of
from provisioner.platforms.keys import FetchKey
from provisioner.platforms.rpm import FETCH_KEY

HOST = Host("gpu01", "gpu01")
PINNED = "0123456789ABCDEF0123456789ABCDEF01234567"


def facts(system: str) -> Facts:
    return facts_of({"from": "fresh", "system": system}, HOST)


def source(name: str, system: str, host: Host = HOST) -> VendorSource:
    return platform_of(facts(system)[OS]).vendor_source(name, facts(system)[OS], host)


def written(name: str, system: str, host: Host = HOST) -> str:
    platform = platform_of(facts(system)[OS])
    actions = platform.source_actions(source(name, system, host), facts(system))
    [file] = [action for action in actions if isinstance(action, WriteFile)]
    return file.content


def test_a_repository_file_of_dnf() -> None:
    assert written("docker", "rocky9") == (
        "# written by rigup; changes are overwritten\n"
        "[rigup-docker]\n"
        "name=rigup docker\n"
        "baseurl=https://download.docker.com/linux/rhel/9/x86_64/stable\n"
        "enabled=1\n"
        "gpgkey=file:///etc/pki/rpm-gpg/rigup-docker-c52feb6b621e9f35.asc\n"
        "gpgcheck=1\n"
        "repo_gpgcheck=0\n"
    )


def test_a_repository_file_of_zypper() -> None:
    assert written("nvidia", "leap156") == (
        "# written by rigup; changes are overwritten\n"
        "[rigup-nvidia]\n"
        "name=rigup nvidia\n"
        "baseurl=https://developer.download.nvidia.com/compute/cuda/repos/opensuse15/x86_64/\n"
        "enabled=1\n"
        "gpgkey=file:///etc/pki/rpm-gpg/rigup-nvidia-9cd0a493d42d0685.asc\n"
        "autorefresh=1\n"
        "type=rpm-md\n"
        "gpgcheck=1\n"
        "repo_gpgcheck=0\n"
        "pkg_gpgcheck=1\n"
    )


@pytest.mark.parametrize("system", ["rocky9", "fedora44", "amzn2023", "leap156"])
def test_the_toolkits_key_signs_the_metadata_only_so_that_is_checked(system: str) -> None:
    lines = written("container_toolkit", system).splitlines()
    assert "repo_gpgcheck=1" in lines
    assert ("pkg_gpgcheck=0" if system == "leap156" else "gpgcheck=0") in lines


def test_nothing_but_dkms_comes_from_epel() -> None:
    assert "includepkgs=dkms" in written("epel", "rocky9").splitlines()


def test_epel_comes_from_the_mirror_too() -> None:
    host = replace(HOST, mirrors=Mirrors(epel=Repository(uri="https://mirror.example/epel/")))
    assert "baseurl=https://mirror.example/epel/" in written("epel", "rocky9", host).splitlines()


def test_the_inventorys_proxy_stands_in_rigups_own_repositories() -> None:
    host = replace(HOST, mirrors=Mirrors(http_proxy="http://proxy.example:3128"))
    assert "proxy=http://proxy.example:3128" in written("docker", "rocky9", host).splitlines()
    assert "proxy" not in written("docker", "rocky9")


def test_a_key_without_a_known_fingerprint_is_refused_until_it_is_pinned() -> None:
    with pytest.raises(BlockedError, match="not known to rigup") as raised:
        source("nvidia", "rhel10")
    assert "CDF6BA43.pub" in str(raised.value.remedy)
    assert "key_fingerprint" in str(raised.value.remedy)
    pinned = replace(HOST, mirrors=Mirrors(nvidia=Repository(key_fingerprint=PINNED)))
    found = source("nvidia", "rhel10", pinned)
    assert found.key_fingerprint == PINNED
    assert found.key_url.endswith("/rhel10/x86_64/CDF6BA43.pub")


def test_a_key_files_name_ends_like_the_fingerprint_that_is_pinned_for_it() -> None:
    """NVIDIA names its key files by the end of the fingerprint: no row may mix two up."""
    row = data.load("repositories")["nvidia"]["rpm"]
    for item in (row, *row["per_platform"].values()):
        if item["key_fingerprint"]:
            assert item["key_url"].endswith(f"/{item['key_fingerprint'][-8:]}.pub")


def test_the_file_is_written_last_so_that_it_is_there_only_with_a_trusted_key() -> None:
    platform = platform_of(facts("leap156")[OS])
    actions = platform.source_actions(source("nvidia", "leap156"), facts("leap156"))
    assert isinstance(actions[0], FetchKey)
    assert actions[1].describe().startswith("sudo rpm --import")
    assert isinstance(actions[-1], WriteFile)


@pytest.mark.parametrize(
    ("configured", "proxy", "wanted"),
    [
        ("", "", []),
        ("proxy=http://conf.example:8080\n", "", ["--proxy", "http://conf.example:8080"]),
        ("proxy = http://conf.example:8080\n", "http://p.example", ["--proxy", "http://p.example"]),
        ("proxy=_none_\n", "", []),
    ],
)
def test_the_key_is_fetched_with_the_hosts_own_proxy(
    tmp_path: Path, configured: str, proxy: str, wanted: list[str]
) -> None:
    """The script really run, with a stand-in for curl: the URL is never a shell word."""
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    curl.chmod(0o755)
    (tmp_path / "dnf.conf").write_text(f"[main]\n{configured}")
    script = FETCH_KEY.replace("/etc/dnf/dnf.conf", str(tmp_path / "dnf.conf"))
    script = script.replace("/etc/sysconfig/proxy", str(tmp_path / "none"))
    url = "https://m.example/$(touch pwned) 'k'"
    command = Command.sh(script, *filter(None, (url, proxy)))
    done = subprocess.run(
        ["sh", "-c", command.render()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[-2:] == ["--url", url]
    assert [word for word in words if word in wanted] == wanted
    assert ("--proxy" in words) == bool(wanted)
    assert not (tmp_path / "pwned").exists()


def test_suses_own_proxy_settings_are_used_where_they_are_switched_on(tmp_path: Path) -> None:
    (tmp_path / "proxy").write_text('PROXY_ENABLED="yes"\nHTTPS_PROXY="http://suse.example:1"\n')
    (tmp_path / "curl").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    script = FETCH_KEY.replace("/etc/sysconfig/proxy", str(tmp_path / "proxy"))
    done = subprocess.run(
        ["sh", "-c", script, "sh", "https://m.example/k"],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=False,
    )
    assert "--proxy http://suse.example:1" in done.stdout
