"""GPU figures where cards, drivers and helpers misbehave."""

from __future__ import annotations

import sys
import types

import pytest

from remote_agent.metrics.nvml import NvmlReader
from remote_agent.metrics.nvml_client import NvmlClient, run_now


class NvmlError(Exception):
    def __init__(self, value):
        super().__init__(f"NVML error {value}")
        self.value = value


def refuse(number):
    def function(*arguments):
        raise NvmlError(number)

    return function


FUNCTIONS = """
    Name UUID UtilizationRates MemoryInfo PowerUsage EnforcedPowerLimit Temperature FanSpeed
    ClockInfo PerformanceState CurrentClocksEventReasons CurrentClocksThrottleReasons
    PciInfo TotalEccErrors MigMode ComputeRunningProcesses_v3 ComputeRunningProcesses_v2
"""


def fake(**answers):
    """A pynvml that refuses everything but what ``answers`` say; two GPUs."""
    module = types.SimpleNamespace(
        NVMLError=NvmlError,
        NVML_CLOCK_SM=1,
        NVML_MEMORY_ERROR_TYPE_UNCORRECTED=1,
        NVML_VOLATILE_ECC=0,
        nvmlMemory_v2=2,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
    )
    for name in FUNCTIONS.split():
        setattr(module, "nvmlDeviceGet" + name, refuse(3))
    module.nvmlDeviceGetUUID = lambda handle: f"GPU-{handle}"
    for name, answer in answers.items():
        setattr(module, name if name.startswith("nvml") else "nvmlDeviceGet" + name, answer)
    return module


def test_a_card_that_supports_nothing_is_still_listed():
    told = NvmlReader(fake()).read()
    assert told["driver_version"] == "580.1"
    gpu = told["gpus"][1]
    assert (gpu["index"], gpu["uuid"], gpu["name"], gpu["error"]) == (1, "GPU-1", "unknown", None)
    figures = ["utilization", "memory_used", "power", "temperature", "fan", "mig_enabled", "pstate"]
    assert [gpu[figure] for figure in figures] == [None] * len(figures)
    assert (gpu["processes"], gpu["processes_known"]) == ([], False)


def test_no_processes_is_an_answer():
    gpu = NvmlReader(fake(ComputeRunningProcesses_v3=lambda handle: [])).read()["gpus"][0]
    assert (gpu["processes"], gpu["processes_known"]) == ([], True)


def test_the_pci_address_is_written_as_in_the_kernel_log():
    info = types.SimpleNamespace(domain=0, bus=0xAF, device=1)
    gpus = NvmlReader(fake(PciInfo=lambda handle: info)).read()["gpus"]
    assert gpus[0]["pci"] == "0000:af:01"


def test_mig_hides_utilization_and_bits_become_words():
    gpu = NvmlReader(
        fake(
            MigMode=lambda handle: [1, 1],
            UtilizationRates=lambda handle: types.SimpleNamespace(gpu=99),
            CurrentClocksEventReasons=lambda handle: 0x1 | 0x4 | 0x40,
            PerformanceState=lambda handle: 32,
            PowerUsage=lambda handle: 123_456,
            Name=lambda handle: b"NVIDIA H100 SIMULATED",
        )
    ).read()["gpus"][0]
    assert (gpu["mig_enabled"], gpu["utilization"]) == (True, None)
    assert gpu["throttle_reasons"] == ["power-cap", "thermal-hw"]
    assert (gpu["pstate"], gpu["power"], gpu["simulated"]) == (None, 123.456, True)


def test_older_drivers_names_are_tried():
    def memory(handle, version=None):
        if version:
            raise NvmlError(13)
        return types.SimpleNamespace(used=1, total=2)

    gpu = NvmlReader(
        fake(
            MemoryInfo=memory,
            CurrentClocksThrottleReasons=lambda handle: 0x8,
            ComputeRunningProcesses_v2=lambda handle: [
                types.SimpleNamespace(pid=2**22 + 1, usedGpuMemory=None)
            ],
        )
    ).read()["gpus"][0]
    assert (gpu["memory_used"], gpu["memory_total"]) == (1, 2)
    assert gpu["throttle_reasons"] == ["hw-slowdown"]
    assert gpu["processes"][0] == {
        "pid": 2**22 + 1,
        "memory_bytes": None,
        "user": None,
        "name": None,
        "job_id": None,
    }


def test_one_lost_card_does_not_hide_the_other():
    def handle_of(index):
        if index == 0:
            raise NvmlError(15)
        return index

    told = NvmlReader(fake(nvmlDeviceGetHandleByIndex=handle_of)).read()
    assert "restart the machine" in told["gpus"][0]["error"]
    assert told["gpus"][1]["error"] is None


def test_handles_are_fetched_once_and_again_after_a_loss():
    calls = []
    module = fake(nvmlDeviceGetHandleByIndex=lambda index: calls.append(index) or index)
    reader = NvmlReader(module)
    reader.read()
    reader.read()
    assert calls == [0, 1]
    module.nvmlDeviceGetUUID = refuse(15)
    assert "fallen off" in reader.read()["gpus"][0]["error"]
    reader.read()
    assert calls == [0, 1, 0, 1]


@pytest.mark.parametrize(("number", "said"), [(9, "not loaded"), (18, "reboot"), (77, "77")])
def test_no_usable_library(number, said):
    told = NvmlReader(fake(nvmlInit=refuse(number))).read()
    assert said in told["gpu_error"]
    assert told["gpu_error_number"] == number
    assert "gpus" not in told


def helper(code, **options):
    return NvmlClient(lambda: [sys.executable, "-c", code], **options)


ECHO = 'import sys\nfor line in sys.stdin: print(\'{"gpu_error": "e"}\', flush=True)'


def test_the_helper_is_asked_again_and_again():
    client = helper(ECHO)
    assert [run_now(client.read()).error for _ in range(3)] == ["e"] * 3
    client.close()


def test_a_hanging_driver_is_given_up_and_left_alone_for_a_while():
    client = helper("import time; time.sleep(600)", timeout_s=0.1)
    assert "did not answer within 0.1 s" in run_now(client.read()).error
    assert "does not answer" in run_now(client.read()).error
    client.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "ended without an answer"),
        ("print('Segmentation fault'); input()", "damaged"),
        ("import os; os.write(1, b'{\"gpus\": ')", "ended"),
    ],
)
def test_a_broken_helper_is_an_error_not_an_exception(code, said):
    client = helper(code)
    assert said in run_now(client.read()).error
    client.close()
