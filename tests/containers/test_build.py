from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from inventory import Mirrors
from provisioner.command import Command, Result
from provisioner.containers.build import (
    BuildInputs,
    build_on,
    build_words,
    inputs_for,
    recipe,
    with_ssh,
)
from provisioner.errors import CommandFailed, UsageError
from provisioner.transport.fake import FakeTransport

BASE = "pytorch/pytorch:2.14.0-cuda13.0-cudnn9-runtime"
INPUTS = BuildInputs(BASE)
AUTHORITY = Path(__file__).parents[1] / "cases" / "authorities" / "company.pem"


@pytest.mark.parametrize(
    "changed",
    [
        replace(INPUTS, base="other"),
        replace(INPUTS, torch="torch==2.13.0"),
        replace(INPUTS, authorities={"corp.crt": b"pem"}),
        replace(INPUTS, pip={"index-url": "https://pypi.example/simple"}),
    ],
)
def test_every_input_changes_the_name(changed: BuildInputs) -> None:
    assert recipe(INPUTS).reference == recipe(INPUTS).reference
    assert recipe(changed).reference != recipe(INPUTS).reference


def test_the_context_has_both_folders_and_the_authorities() -> None:
    inputs = replace(INPUTS, authorities={"corp.crt": b"pem"})
    with tarfile.open(fileobj=io.BytesIO(recipe(inputs).context())) as context:
        names = context.getnames()
        authority = context.extractfile("ca/corp.crt")
    assert {"Dockerfile", "install.sh", "entrypoint.sh", "wheels/.keep", "pip.conf"} <= set(names)
    assert authority is not None
    assert authority.read() == b"pem"


def test_the_inventorys_mirrors_reach_the_build(tmp_path: Path) -> None:
    mirrors = Mirrors(
        ca_certificates=(AUTHORITY,),
        python_index="https://pypi.example/simple",
        http_proxy="http://proxy.example:3128",
    )
    inputs = inputs_for(BASE, mirrors)
    files = recipe(inputs).files
    [name] = [name for name in files if name.startswith("ca/rigup-")]
    assert files[name] == AUTHORITY.read_bytes()
    assert b"index-url = https://pypi.example/simple" in files["pip.conf"]
    assert "https_proxy=http://proxy.example:3128" in build_words("r", inputs, "-")
    with pytest.raises(UsageError, match="absent"):
        inputs_for(BASE, Mirrors(ca_certificates=(tmp_path / "absent.crt",)))


class Engine:
    """A Docker that has an image once it was built."""

    def __init__(self, *, ssh_label: str = "", fails: bool = False) -> None:
        self.built: list[Command] = []
        self.ssh_label, self.fails = ssh_label, fails

    def __call__(self, command: Command) -> Result:
        words = command.words
        if words[1] == "build":
            self.built.append(command)
            return Result(command, int(self.fails), b"Step 1/2 : FROM x\nnoise\nStep 2/2 : RUN y\n")
        if "rigup.ssh" in words[-2]:
            return Result(command, 0, self.ssh_label.encode())
        if words[1] == "image" and words[2] == "inspect" and not self.built:
            return Result(command, 1, b"", b"Error: No such image: x")
        return Result(command, 0, b"sha256:1")


def test_a_build_happens_once_and_reports_its_steps() -> None:
    engine, said = Engine(), list[str]()
    host = FakeTransport(engine)
    first = build_on(host, INPUTS, said.append)
    second = build_on(host, INPUTS, said.append)
    assert first == second
    assert len(engine.built) == 1
    assert said[1:] == ["fake01: Step 1/2 : FROM x", "fake01: Step 2/2 : RUN y"]


def test_an_image_made_for_ssh_is_used_as_it_is() -> None:
    engine = Engine(ssh_label="1")
    assert with_ssh(FakeTransport(engine), "mine:1", Mirrors()) == "mine:1"
    assert engine.built == []


def test_any_other_image_is_built_upon() -> None:
    engine = Engine()
    reference = with_ssh(FakeTransport(engine), BASE, Mirrors())
    assert reference.startswith("rigup/pytorch:")
    assert f"BASE_IMAGE={BASE}" in engine.built[0].words


def test_a_failed_build_points_at_the_mirrors() -> None:
    with pytest.raises(CommandFailed) as caught:
        build_on(FakeTransport(Engine(fails=True)), INPUTS)
    assert "python_index" in (caught.value.remedy or "")
