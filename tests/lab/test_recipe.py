"""Images are named by their recipe: same input, same name; any other input, another name."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import pytest

from provisioner.lab.distros import find_distro
from provisioner.lab.machine import Machine
from provisioner.lab.recipe import Recipe, base_recipe, host_recipe, inherited_files, tar_of

BOOKWORM = find_distro("debian12")
MACHINE = Machine(
    archive="http://mirror.example/debian",
    security="http://mirror.example/debian-security",
    authorities={"company.crt": b"PEM"},
    apt_options={"Acquire::Check-Date": "false"},
)


def test_the_same_recipe_has_the_same_name() -> None:
    assert base_recipe(BOOKWORM, MACHINE, "p").reference == (
        base_recipe(BOOKWORM, replace(MACHINE), "p").reference
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(MACHINE, archive="http://other.example/debian"),
        replace(MACHINE, authorities={"company.crt": b"another"}),
        replace(MACHINE, authorities={}),
        replace(MACHINE, apt_options={}),
    ],
)
def test_any_change_of_the_machine_renames_the_base_image(other: Machine) -> None:
    assert base_recipe(BOOKWORM, other, "p").digest != base_recipe(BOOKWORM, MACHINE, "p").digest


def test_moving_bytes_between_files_renames_the_image() -> None:
    one = Recipe("r", {"a": b"bc", "d": b""})
    other = Recipe("r", {"a": b"b", "d": b"c"})
    assert one.digest != other.digest


def test_renaming_a_file_renames_the_image() -> None:
    assert Recipe("r", {"a": b"x"}).digest != Recipe("r", {"b": b"x"}).digest


def test_a_host_image_follows_its_base_image() -> None:
    assert host_recipe(BOOKWORM, "base:1").digest != host_recipe(BOOKWORM, "base:2").digest


def test_sources_name_the_mirror_and_the_suite() -> None:
    sources = inherited_files(find_distro("debian13"), MACHINE)[
        "etc/apt/sources.list.d/debian.sources"
    ].decode()
    assert "URIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n" in sources
    assert "URIs: http://mirror.example/debian-security\nSuites: trixie-security\n" in sources


def test_authorities_and_pip_settings_travel() -> None:
    files = inherited_files(BOOKWORM, MACHINE)
    assert files["usr/local/share/ca-certificates/company.crt"] == b"PEM"
    assert b"cert = /etc/ssl/certs/ca-certificates.crt" in files["etc/pip.conf"]
    assert files["etc/apt/apt.conf.d/99rigup-lab"] == b'Acquire::Check-Date "false";\n'


def test_nothing_of_dockers_or_nvidias_is_installed_in_a_host() -> None:
    recipe = host_recipe(BOOKWORM, "base:1")
    dockerfile = recipe.files["Dockerfile"].decode()
    assert dockerfile.startswith("FROM base:1\n")
    downloads = dockerfile.split("--download-only", 1)[1].split("&&", 1)[0]
    assert "docker.io" in downloads
    assert "docker" not in dockerfile.replace(downloads, "").replace("container=docker", "")
    assert "nvidia" not in dockerfile


def test_archives_are_reproducible_and_scripts_executable() -> None:
    files = {"b/run": b"#!/bin/sh\n", "a.txt": b"text"}
    assert tar_of(files) == tar_of(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(tar_of(files, modes={"a.txt": 0o600}))) as archive:
        modes = {entry.name: entry.mode for entry in archive.getmembers()}
    assert modes == {"a.txt": 0o600, "b/run": 0o755}
