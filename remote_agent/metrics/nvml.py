"""GPU figures through NVML. Every figure is its own question: a card that cannot answer one
(``NOT_SUPPORTED``, a deprecated or missing function) still answers the others.

The functions used are listed in docs/agent.md, so that a simulated library can offer the same.
"""

from __future__ import annotations

import os
import pwd
from typing import Any, Callable, Dict, List, Optional, Tuple

from remote_agent.processes import job_of
from remote_agent.protocol.sample import GpuProcess, GpuSample

SIMULATED = "SIMULATED"
"""Practice hosts put this into the names of their GPUs."""

THROTTLE_REASONS = (
    (0x2, "application-clocks"),
    (0x4, "power-cap"),
    (0x8, "hw-slowdown"),
    (0x10, "sync-boost"),
    (0x20, "thermal-sw"),
    (0x40, "thermal-hw"),
    (0x80, "power-brake"),
    (0x100, "display-clocks"),
)
"""Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h); 0x1, idle, is no throttling."""

EXPLANATIONS = {
    9: "the NVIDIA driver is not loaded (run `rigup provision`, or reboot after an installation)",
    12: "no NVIDIA driver library on this host (libnvidia-ml.so.1)",
    15: "a GPU has fallen off the bus: restart the machine",
    16: "a GPU needs a reset: `nvidia-smi --gpu-reset`",
    18: "the driver was upgraded under the running one (driver/library version mismatch): reboot",
    999: "NVML answers `unknown error`; the driver may be half removed or half loaded",
}
"""nvmlReturn_t (nvml.h) -> what a person can do about it."""

MIG_ENABLED = 1
MILLI = 1000.0


class NvmlReader:
    """``nvml`` is the pynvml module. Handles are fetched once per initialisation, because
    fetching them initialises GPUs that nothing keeps awake. Processor-bound: a few ms."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._handles: Optional[List[Any]] = None

    def read(self) -> Dict[str, Any]:
        """``{"gpus": […], "driver_version": …}``, or ``{"gpu_error": …}`` with the
        error's number; JSON values."""
        try:
            if self._handles is None:
                self._handles = self._open()
            gpus = [self._gpu(index, handle) for index, handle in enumerate(self._handles)]
        except self._nvml.NVMLError as error:
            self._close()
            number = getattr(error, "value", None)
            return {"gpu_error": self._explain(error), "gpu_error_number": number}
        version = self._ask(self._nvml.nvmlSystemGetDriverVersion)
        if any(gpu.error for gpu in gpus):
            self._close()  # a GPU that was lost needs fresh handles
        return {"gpus": [gpu.to_json() for gpu in gpus], "driver_version": version}

    def _open(self) -> List[Any]:
        """One entry per GPU; the error in place of a handle that cannot be had."""
        self._nvml.nvmlInit()
        handles: List[Any] = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handles.append(self._nvml.nvmlDeviceGetHandleByIndex(index))
            except self._nvml.NVMLError as error:
                handles.append(error)
        return handles

    def _close(self) -> None:
        self._handles = None
        self._ask(self._nvml.nvmlShutdown)

    def _gpu(self, index: int, handle: Any) -> GpuSample:
        if isinstance(handle, self._nvml.NVMLError):
            return GpuSample(index, "unknown-%d" % index, "unknown", error=self._explain(handle))
        nvml, ask = self._nvml, self._ask
        uuid, problem = self._identify(handle)
        if problem is not None:
            return GpuSample(index, "unknown-%d" % index, "unknown", error=problem)
        name = _text(ask(nvml.nvmlDeviceGetName, handle)) or "unknown"
        mig = self._mig(handle)
        used, total = self._memory(handle)
        processes = self._processes(handle)
        return GpuSample(
            index=index,
            uuid=uuid,
            name=name,
            simulated=SIMULATED in name,
            utilization=None if mig else self._utilization(handle),
            memory_used=used,
            memory_total=total,
            power=_watts(ask(nvml.nvmlDeviceGetPowerUsage, handle)),
            power_limit=_watts(ask(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
            temperature=ask(nvml.nvmlDeviceGetTemperature, handle, 0),
            fan=ask(nvml.nvmlDeviceGetFanSpeed, handle),
            sm_clock=ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            pstate=_pstate(ask(nvml.nvmlDeviceGetPerformanceState, handle)),
            throttle_reasons=self._throttling(handle),
            ecc_uncorrected=ask(
                nvml.nvmlDeviceGetTotalEccErrors,
                handle,
                nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                nvml.NVML_VOLATILE_ECC,
            ),
            mig_enabled=mig,
            pci=self._pci(handle),
            processes=processes or (),
            processes_known=processes is not None,
        )

    def _identify(self, handle: Any) -> Tuple[str, Optional[str]]:
        """A GPU that cannot even tell its UUID is lost: say so instead of a row of blanks."""
        try:
            return _text(self._nvml.nvmlDeviceGetUUID(handle)) or "unknown", None
        except self._nvml.NVMLError as error:
            return "", self._explain(error)

    def _utilization(self, handle: Any) -> Optional[int]:
        rates = self._ask(self._nvml.nvmlDeviceGetUtilizationRates, handle)
        return None if rates is None else int(rates.gpu)

    def _memory(self, handle: Any) -> Tuple[Optional[int], Optional[int]]:
        """Version 2 does not count the driver's own reserve as used, as nvidia-smi shows it;
        drivers before R510 know only version 1."""
        nvml = self._nvml
        info = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
        if info is None:
            info = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        return (None, None) if info is None else (int(info.used), int(info.total))

    def _throttling(self, handle: Any) -> Tuple[str, ...]:
        bits = self._ask(self._nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
        if bits is None:  # the name before R535
            bits = self._ask(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
        return tuple(name for bit, name in THROTTLE_REASONS if bits is not None and bits & bit)

    def _mig(self, handle: Any) -> Optional[bool]:
        modes = self._ask(self._nvml.nvmlDeviceGetMigMode, handle)
        return None if modes is None else modes[0] == MIG_ENABLED

    def _pci(self, handle: Any) -> Optional[str]:
        """Xid messages say PCI:dddd:bb:dd, without a function."""
        info = self._ask(self._nvml.nvmlDeviceGetPciInfo, handle)
        return None if info is None else "%04x:%02x:%02x" % (info.domain, info.bus, info.device)

    def _processes(self, handle: Any) -> Optional[Tuple[GpuProcess, ...]]:
        """None where the driver does not tell."""
        nvml = self._nvml
        found = self._ask(nvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
        if found is None:  # drivers before R510
            found = self._ask(nvml.nvmlDeviceGetComputeRunningProcesses_v2, handle)
        if found is None:
            return None
        return tuple(_process(row.pid, row.usedGpuMemory) for row in found)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None

    def _explain(self, error: Any) -> str:
        number = getattr(error, "value", None)
        known = EXPLANATIONS.get(number) if isinstance(number, int) else None
        return known or "NVML error: %s" % error


def _process(pid: int, memory: Optional[int]) -> GpuProcess:
    """Name, user and job as /proc tells them: empty for a process of another container."""
    return GpuProcess(
        pid=int(pid),
        memory_bytes=None if memory is None else int(memory),
        user=_user(pid),
        name=_name(pid),
        job_id=job_of(pid),
    )


def _user(pid: int) -> Optional[str]:
    try:
        uid = os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name(pid: int) -> Optional[str]:
    try:
        with open("/proc/%d/comm" % pid) as file:
            return file.read().strip()
    except OSError:
        return None


def _text(value: Any) -> str:
    """Older bindings answer with bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _watts(milliwatts: Optional[int]) -> Optional[float]:
    return None if milliwatts is None else milliwatts / MILLI


def _pstate(state: Optional[int]) -> Optional[int]:
    """0 (fastest) to 15; NVML says 32 for unknown."""
    return state if state is not None and 0 <= state <= 15 else None
