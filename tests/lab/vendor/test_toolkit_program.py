"""The stand-in container toolkit: which GPUs a container gets, and what daemon.json becomes."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CONFIG = """\
name NVIDIA H100 80GB HBM3 (SIMULATED)
gpu 0 GPU-aaaa 0000:17:00.0
gpu 1 GPU-bbbb 0000:27:00.0
gpu_other 9 GPU-cccc
"""


@pytest.fixture(scope="module")
def toolkit() -> ModuleType:
    """The program as it is shipped: one file, imported from where it lies."""
    path = resources.files("provisioner.lab").joinpath("files/vendor/toolkit/nvidia_toolkit.py")
    spec = importlib.util.spec_from_file_location("nvidia_toolkit", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nvidia_toolkit"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("wanted", "minors"),
    [("all", [0, 1]), ("none", []), ("1", [1]), ("1,0", [1, 0]), ("GPU-bbbb", [1]), ("0,0", [0])],
)
def test_visible_devices_choose_gpus(toolkit: ModuleType, wanted: str, minors: list[int]) -> None:
    chosen = toolkit.choose(toolkit.parse_gpus(CONFIG), wanted)
    assert [gpu.minor for gpu in chosen] == minors


@pytest.mark.parametrize("wanted", ["2", "GPU-zzzz", "0,7", "-1"])
def test_an_unknown_device_is_refused(toolkit: ModuleType, wanted: str) -> None:
    with pytest.raises(toolkit.ToolkitError, match="unknown device"):
        toolkit.choose(toolkit.parse_gpus(CONFIG), wanted)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (["PATH=/bin"], None),
        (["NVIDIA_VISIBLE_DEVICES=void"], None),
        (["NVIDIA_VISIBLE_DEVICES="], None),
        (["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=0"], "0"),
    ],
)
def test_what_a_container_asks_for(
    toolkit: ModuleType, environment: list[str], expected: str | None
) -> None:
    assert toolkit.visible_devices({"process": {"env": environment}}) == expected


def configure(toolkit: ModuleType, path: Path, *more: str) -> Any:
    arguments = ["runtime", "configure", "--runtime=docker", f"--config={path}", *more]
    assert toolkit.main("nvidia-ctk", arguments) == 0
    return json.loads(path.read_text())


def test_daemon_json_is_made_where_there_is_none(toolkit: ModuleType, tmp_path: Path) -> None:
    written = configure(toolkit, tmp_path / "etc" / "daemon.json")
    assert written == {"runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}}


def test_daemon_json_is_merged_and_never_overwritten(toolkit: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    mine = {"log-driver": "local", "runtimes": {"kata": {"path": "/k"}}, "features": {"x": True}}
    path.write_text(json.dumps(mine))
    written = configure(toolkit, path, "--cdi.enabled", "--set-as-default")
    assert written["log-driver"] == "local"
    assert written["runtimes"]["kata"] == {"path": "/k"}
    assert written["features"] == {"x": True, "cdi": True}
    assert written["default-runtime"] == "nvidia"
    assert configure(toolkit, path) == written


def test_a_broken_daemon_json_is_left_alone(
    toolkit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "daemon.json"
    path.write_text("{broken")
    assert toolkit.main("nvidia-ctk", ["runtime", "configure", "--config", str(path)]) == 1
    assert path.read_text() == "{broken"
    assert "unable to load config" in capsys.readouterr().err


def test_the_hook_is_added_once(toolkit: ModuleType) -> None:
    once = toolkit.with_hook({})
    assert toolkit.with_hook(json.loads(json.dumps(once))) == once


def test_a_cdi_specification_names_gpus_by_index_uuid_and_all(toolkit: ModuleType) -> None:
    spec = toolkit.cdi_spec(toolkit.parse_gpus(CONFIG), "/usr/lib/x/libnvidia-ml.so.1")
    nodes = {
        device["name"]: [node["path"] for node in device["containerEdits"]["deviceNodes"]]
        for device in spec["devices"]
    }
    assert nodes["1"] == nodes["GPU-bbbb"] == ["/dev/nvidia1"]
    assert nodes["all"] == ["/dev/nvidia0", "/dev/nvidia1"]
