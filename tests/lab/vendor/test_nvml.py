"""The stand-in NVML, compiled here and asked through nvidia-ml-py as the agent asks it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from provisioner.lab.gpus import MODELS, find_model, render_config

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")

Ask = Callable[..., Any]

ASK = """
import json, sys, pynvml
def answer(name, *arguments):
    try:
        result = getattr(pynvml, name)(*arguments)
    except pynvml.NVMLError as error:
        return f"{type(error).__name__}"
    return {"gpu": getattr(result, "gpu", None)} if hasattr(result, "gpu") else result
pynvml.nvmlInit()
out = []
for call in json.loads(sys.argv[1]):
    name, index, *arguments = call
    if index is None:
        out.append(answer(name, *arguments))
        continue
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        out.append(type(error).__name__)
        continue
    out.append(answer(name, handle, *arguments))
print(json.dumps(out, default=lambda value: dict(vars(value)) or str(value)))
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library, nvidia-smi, a device folder and where the configuration goes."""
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "dev").mkdir()
    source = Path(str(resources.files("provisioner.lab").joinpath("files/vendor/src")))
    defines = {
        "DRIVER_VERSION": "580.173.02",
        "CUDA_MAJOR": "13",
        "CONFIG_PATH": str(folder / "gpus.conf"),
        "DEVICE_DIR": str(folder / "dev"),
        "MODULE_FILE": str(folder / "module"),
    }
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-DCUDA_VERSION=13000"]
    flags += [f'-D{name}="{value}"' for name, value in defines.items()]
    library = [source / name for name in ("nvml.c", "nvml_device.c", "gpus.c")]
    program = [source / "smi.c", source / "smi_fields.c"]
    shared = ["-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1"]
    subprocess.run(["gcc", *flags, *shared, *library], check=True)
    subprocess.run(["gcc", *flags, "-o", folder / "nvidia-smi", *program, *library], check=True)
    return folder


@pytest.fixture
def ask(simulated: Path) -> Ask:
    """Ask NVML in a process of its own: ``ask(configuration, (function, gpu or None, …), …)``."""

    def call(config: str, *calls: tuple[Any, ...]) -> Any:
        configure(simulated, config)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(simulated)}
        words = [sys.executable, "-c", ASK, json.dumps(calls)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return call


def configure(folder: Path, config: str, *, visible: tuple[int, ...] = (0, 1)) -> None:
    (folder / "gpus.conf").write_text(config)
    for node in (folder / "dev").iterdir():
        node.unlink()
    for name in ("ctl", *visible):
        (folder / "dev" / f"nvidia{name}").touch()


def smi(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [folder / "nvidia-smi", *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def config_of(model: str = "h100", *, load: str = "wave", more: str = "") -> str:
    return render_config("test", find_model(model), 2, load=load) + more


def test_names_say_simulated_and_versions_are_the_packages(ask: Ask) -> None:
    name, driver, cuda, capability = ask(
        config_of(),
        ("nvmlDeviceGetName", 0),
        ("nvmlSystemGetDriverVersion", None),
        ("nvmlSystemGetCudaDriverVersion_v2", None),
        ("nvmlDeviceGetCudaComputeCapability", 1),
    )
    assert name == "NVIDIA H100 80GB HBM3 (SIMULATED)"
    assert (driver, cuda, capability) == ("580.173.02", 13000, [9, 0])


def test_what_a_gpu_lacks_is_not_supported_rather_than_zero(ask: Ask) -> None:
    assert ask(config_of("h100"), ("nvmlDeviceGetFanSpeed", 0)) == ["NVMLError_NotSupported"]
    fan, ecc, mig = ask(
        config_of("rtx4090", load="idle"),
        ("nvmlDeviceGetFanSpeed", 0),
        ("nvmlDeviceGetTotalEccErrors", 0, 1, 0),
        ("nvmlDeviceGetMigMode", 0),
    )
    assert (fan, ecc, mig) == (20, "NVMLError_NotSupported", "NVMLError_NotSupported")


def test_with_mig_on_utilisation_is_not_available(ask: Ask) -> None:
    config = config_of().replace("mig off", "mig on")
    mode, utilization = ask(
        config, ("nvmlDeviceGetMigMode", 0), ("nvmlDeviceGetUtilizationRates", 0)
    )
    assert (mode, utilization) == ([1, 1], "NVMLError_NotSupported")


def test_load_follows_the_script(ask: Ask) -> None:
    question = ("nvmlDeviceGetUtilizationRates", 0)
    assert ask(config_of(load="idle"), question) == [{"gpu": 0}]
    assert 94 <= ask(config_of(load="busy"), question)[0]["gpu"] <= 99
    assert 5 <= ask(config_of(load="wave"), question)[0]["gpu"] <= 95


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("lost", "NVMLError_GpuIsLost"),
        ("reset", "NVMLError_ResetRequired"),
        ("unknown", "NVMLError_Unknown"),
    ],
)
def test_a_fault_strikes_one_gpu_only(ask: Ask, fault: str, error: str) -> None:
    config = config_of(load="idle", more=f"fault 1 {fault}\n")
    question = "nvmlDeviceGetTemperature"
    assert ask(config, (question, 0, 0), (question, 1, 0)) == [30, error]


def test_heat_and_memory_errors_show(ask: Ask) -> None:
    config = config_of(more="fault 0 hot\nfault 1 ecc\n")
    celsius, reasons, errors = ask(
        config,
        ("nvmlDeviceGetTemperature", 0, 0),
        ("nvmlDeviceGetCurrentClocksEventReasons", 0),
        ("nvmlDeviceGetTotalEccErrors", 1, 1, 0),
    )
    assert (celsius, reasons, errors) == (96, 0x60, 7)


@pytest.mark.parametrize("version", ["", "_v2", "_v3"])
def test_processes_show_for_as_long_as_they_live(ask: Ask, version: str) -> None:
    config = config_of(more=f"process 1 {os.getpid()} 1024\nprocess 1 4194300 2048\n")
    question = f"nvmlDeviceGetComputeRunningProcesses{version}"
    none, mine = ask(config, (question, 0), (question, 1))
    assert none == []
    assert [(found["pid"], found["usedGpuMemory"]) for found in mine] == [(os.getpid(), 1 << 30)]


def test_only_gpus_with_a_device_node_are_seen(simulated: Path) -> None:
    configure(simulated, config_of(), visible=(1,))
    status, listed = smi(simulated, "-L")
    assert status == 0
    assert listed.startswith("GPU 0: NVIDIA H100 80GB HBM3 (SIMULATED)")
    assert listed.count("\n") == 1


@pytest.mark.parametrize("model", MODELS)
def test_queries_give_csv_for_every_model(simulated: Path, model: str) -> None:
    configure(simulated, config_of(model))
    fields = "index,uuid,name,memory.total,mig.mode.current,compute_cap,pci.bus_id"
    status, text = smi(simulated, f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    row = text.splitlines()[1].split(", ")
    assert status == 0
    assert row[0] == "1"
    assert row[3] == str(MODELS[model].memory_mib)
    assert row[4] == ("[N/A]" if MODELS[model].mig == "none" else "Disabled")
    assert row[5:] == [MODELS[model].compute_capability, "00000000:27:00.0"]


def test_nvidia_smi_fails_as_the_real_one_does(simulated: Path) -> None:
    configure(simulated, config_of())
    assert smi(simulated, "--query-gpu=no.such.field")[0] == 2
    configure(simulated, config_of(), visible=())
    assert smi(simulated) == (6, "No devices were found\n")
    (simulated / "dev" / "nvidiactl").unlink()
    status, text = smi(simulated)
    assert status == 9
    assert "couldn't communicate with the NVIDIA driver" in text


def test_an_upgrade_under_a_loaded_module_is_a_version_mismatch(simulated: Path) -> None:
    configure(simulated, config_of())
    (simulated / "module").write_text("NVRM version: NVIDIA UNIX Open Kernel Module 570.1\n")
    status, text = smi(simulated)
    (simulated / "module").unlink()
    assert (status, text) == (18, "Failed to initialize NVML: Driver/library version mismatch\n")
