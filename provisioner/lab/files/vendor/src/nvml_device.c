/* What a simulated GPU measures: memory, load, temperature, power, clocks, errors, processes. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gpus.h"
#include "nvml.h"
#include "nvml_internal.h"

#define PERSISTENCE_FILE "/run/nvidia-persistenced/simulated-persistence-mode"
#define BASE_MIB 512ULL
#define IDLE_POWER_MW 70000U
#define HOT_CELSIUS 96U
#define ECC_ERRORS 7

static unsigned long long used_mib(const struct gpu *gpu)
{
    unsigned long long used = BASE_MIB + nvml_config.memory_mib * gpus_percent(gpu) / 160;
    for (int index = 0; index < nvml_config.processes; index++)
        if (nvml_config.process[index].minor == gpu->minor)
            used += nvml_config.process[index].mib;
    return used < nvml_config.memory_mib ? used : nvml_config.memory_mib;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    memory->total = nvml_config.memory_mib * MIB;
    memory->used = used_mib(device) * MIB;
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t plain;
    nvmlReturn_t result = nvmlDeviceGetMemoryInfo(device, &plain);
    if (result != NVML_SUCCESS)
        return result;
    memory->total = plain.total;
    memory->reserved = BASE_MIB * MIB;
    memory->used = plain.used - memory->reserved;
    memory->free = plain.free;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    if (nvml_config.mig == 1)
        return NVML_NOT_SUPPORTED;
    rates->gpu = gpus_percent(device);
    rates->memory = rates->gpu / 2;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *celsius)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    if (sensor != 0)
        return NVML_INVALID_ARGUMENT;
    *celsius = device->fault == FAULT_HOT ? HOT_CELSIUS : 30 + gpus_percent(device) * 2 / 5;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
    unsigned celsius = 0;
    nvmlReturn_t result = nvmlDeviceGetTemperature(device, temperature->sensorType, &celsius);
    temperature->temperature = (int)celsius;
    return result;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts)
{
    nvmlReturn_t result = nvml_check(device);
    unsigned limit = nvml_config.power_limit_w * 1000;
    unsigned idle = limit / 10 < IDLE_POWER_MW ? limit / 10 : IDLE_POWER_MW;
    if (result == NVML_SUCCESS)
        *milliwatts = idle + (limit - idle) / 100 * gpus_percent(device);
    return result;
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned *milliwatts)
{
    nvmlReturn_t result = nvml_check(device);
    *milliwatts = nvml_config.power_limit_w * 1000;
    return result;
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned *milliwatts)
{
    return nvmlDeviceGetEnforcedPowerLimit(device, milliwatts);
}

nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned *percent)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    if (!nvml_config.fan)
        return NVML_NOT_SUPPORTED;
    *percent = device->fault == FAULT_HOT ? 100 : 20 + gpus_percent(device) / 2;
    return NVML_SUCCESS;
}

/* type 0 graphics, 1 SM, 2 memory, 3 video */
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned type, unsigned *mhz)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    if (type > 3)
        return NVML_INVALID_ARGUMENT;
    *mhz = type == 2 ? 2619 : device->fault == FAULT_HOT ? 345 : 345 + gpus_percent(device) * 16;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, unsigned *state)
{
    nvmlReturn_t result = nvml_check(device);
    if (result == NVML_SUCCESS)
        *state = gpus_percent(device) > 0 ? 0 : 8;
    return result;
}

/* 0x1 idle, 0x4 software power cap, 0x20 software thermal, 0x40 hardware thermal */
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *bits)
{
    nvmlReturn_t result = nvml_check(device);
    if (result == NVML_SUCCESS)
        *bits = device->fault == FAULT_HOT ? 0x60 : gpus_percent(device) == 0 ? 0x1 : 0;
    return result;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *bits)
{
    return nvmlDeviceGetCurrentClocksEventReasons(device, bits);
}

/* type 0 corrected, 1 uncorrected; counter 0 volatile, 1 aggregate */
nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned type, unsigned counter,
                                         unsigned long long *count)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    if (type > 1 || counter > 1)
        return NVML_INVALID_ARGUMENT;
    if (!nvml_config.ecc)
        return NVML_NOT_SUPPORTED;
    *count = device->fault == FAULT_ECC ? ECC_ERRORS : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    *current = *pending = (unsigned)nvml_config.ecc;
    return nvml_config.ecc ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected,
                                       unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    *corrected = *uncorrected = *pending = *failed = 0;
    return nvml_config.ecc && nvml_config.mig != 1 ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    if (nvml_config.mig < 0)
        return NVML_NOT_SUPPORTED;
    *current = *pending = (unsigned)nvml_config.mig;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    nvmlReturn_t result = nvml_check(device);
    *count = result == NVML_SUCCESS && nvml_config.mig >= 0 ? 7 : 0;
    return result;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *mig)
{
    nvmlReturn_t result = nvml_check(device);
    (void)index;
    *mig = NULL;
    return result == NVML_SUCCESS ? NVML_NOT_FOUND : result;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is_mig)
{
    *is_mig = 0;
    return nvml_check(device);
}

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, unsigned *mode)
{
    nvmlReturn_t result = nvml_check(device);
    *mode = access(PERSISTENCE_FILE, F_OK) == 0;
    return result;
}

nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, unsigned mode)
{
    nvmlReturn_t result = nvml_check(device);
    FILE *file;
    if (result != NVML_SUCCESS)
        return result;
    if (mode == 0)
        return unlink(PERSISTENCE_FILE) == 0 || access(PERSISTENCE_FILE, F_OK) != 0 ? NVML_SUCCESS
                                                                                    : NVML_NO_PERMISSION;
    file = fopen(PERSISTENCE_FILE, "we");
    if (file == NULL)
        return NVML_NO_PERMISSION;
    fclose(file);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    nvmlReturn_t result = nvml_check(device);
    *major = nvml_config.capability_major;
    *minor = nvml_config.capability_minor;
    return result;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                     nvmlProcessInfo_t *infos)
{
    nvmlReturn_t result = nvml_check(device);
    unsigned room = *count, found = 0;
    if (result != NVML_SUCCESS)
        return result;
    for (int index = 0; index < nvml_config.processes; index++) {
        const struct process *process = &nvml_config.process[index];
        if (process->minor != device->minor)
            continue;
        if (infos != NULL && found < room)
            infos[found] = (nvmlProcessInfo_t){process->pid, process->mib * MIB, ~0U, ~0U};
        found++;
    }
    *count = found;
    return found > room ? NVML_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned *count,
                                                     nvmlProcessInfo_t *infos)
{
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, infos);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned *count,
                                                  nvmlProcessInfo_v1_t *infos)
{
    nvmlProcessInfo_t full[MAX_PROCESSES];
    unsigned found = infos == NULL || *count > MAX_PROCESSES ? MAX_PROCESSES : *count;
    unsigned room = infos == NULL ? 0 : *count;
    nvmlReturn_t result = nvmlDeviceGetComputeRunningProcesses_v3(device, &found, full);
    *count = found;
    if (result != NVML_SUCCESS || found > room)
        return found > room ? NVML_INSUFFICIENT_SIZE : result;
    for (unsigned index = 0; index < found; index++)
        infos[index] = (nvmlProcessInfo_v1_t){full[index].pid, full[index].usedGpuMemory};
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                      nvmlProcessInfo_t *infos)
{
    (void)infos;
    *count = 0;
    return nvml_check(device);
}
