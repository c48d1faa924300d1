/* Stand-in for libnvidia-ml.so.1: answers for SIMULATED GPUs only. A handle points into one table
 * that every call refreshes, so a GPU keeps its handle for as long as the file lists it. */
#include "nvml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gpus.h"
#include "nvml_internal.h"

#ifndef DRIVER_VERSION
#error "compile with -DDRIVER_VERSION and -DCUDA_VERSION"
#endif

#ifndef DEVICE_DIR
#define DEVICE_DIR "/dev"
#endif
#ifndef MODULE_FILE
#define MODULE_FILE "/proc/driver/nvidia/version"
#endif
#define HANG_SECONDS 120

struct config nvml_config;
static int users;

/* Re-read the configuration, so that a test can change behaviour while a program runs. */
static nvmlReturn_t refresh(void)
{
    struct config fresh;
    if (users == 0)
        return NVML_UNINITIALIZED;
    if (gpus_read(&fresh) != 0)
        return NVML_UNKNOWN;
    nvml_config = fresh;
    return NVML_SUCCESS;
}

static nvmlReturn_t of_fault(enum fault fault)
{
    if (fault == FAULT_HANG)
        sleep(HANG_SECONDS);
    return fault == FAULT_LOST      ? NVML_GPU_IS_LOST
           : fault == FAULT_RESET   ? NVML_RESET_REQUIRED
           : fault == FAULT_UNKNOWN ? NVML_UNKNOWN
                                    : NVML_SUCCESS;
}

/* See nvml_internal.h. */
nvmlReturn_t nvml_check(nvmlDevice_t device)
{
    nvmlReturn_t result = refresh();
    if (result != NVML_SUCCESS)
        return result;
    if (device < nvml_config.gpu || device >= nvml_config.gpu + nvml_config.gpus)
        return NVML_INVALID_ARGUMENT;
    return of_fault(device->fault);
}

static nvmlReturn_t put_text(char *into, unsigned length, const char *text)
{
    if (strlen(text) >= length)
        return NVML_INSUFFICIENT_SIZE;
    strcpy(into, text);
    return NVML_SUCCESS;
}

static int module_version_differs(void)
{
    char line[256] = "";
    FILE *file = fopen(MODULE_FILE, "re");
    if (file == NULL)
        return 0;
    if (fgets(line, sizeof line, file) == NULL)
        line[0] = '\0';
    fclose(file);
    return strstr(line, DRIVER_VERSION) == NULL;
}

nvmlReturn_t nvmlInit_v2(void)
{
    if (access(DEVICE_DIR "/nvidiactl", F_OK) != 0)
        return NVML_DRIVER_NOT_LOADED;
    if (module_version_differs())
        return NVML_LIB_RM_VERSION_MISMATCH;
    users++;
    return refresh();
}

nvmlReturn_t nvmlInit(void) { return nvmlInit_v2(); }
nvmlReturn_t nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }

nvmlReturn_t nvmlShutdown(void)
{
    if (users == 0)
        return NVML_UNINITIALIZED;
    users--;
    return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t code)
{
    switch (code) {
    case NVML_SUCCESS: return "The operation was successful";
    case NVML_UNINITIALIZED: return "Uninitialized";
    case NVML_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_NOT_SUPPORTED: return "Not Supported";
    case NVML_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_NOT_FOUND: return "Not Found";
    case NVML_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_GPU_IS_LOST: return "GPU is lost";
    case NVML_RESET_REQUIRED: return "GPU requires reset";
    case NVML_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    return users == 0 ? NVML_UNINITIALIZED : put_text(version, length, DRIVER_VERSION);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length)
{
    return put_text(version, length, CUDA_MAJOR "." DRIVER_VERSION);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    *version = CUDA_VERSION;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length)
{
    char path[64];
    ssize_t size;
    int file;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || length == 0)
        return NVML_NOT_FOUND;
    size = read(file, name, length - 1);
    close(file);
    name[size < 0 ? 0 : size] = '\0';
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    nvmlReturn_t result = refresh();
    *count = result == NVML_SUCCESS ? (unsigned)nvml_config.gpus : 0;
    return result;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    nvmlReturn_t result = refresh();
    if (result != NVML_SUCCESS)
        return result;
    if (index >= (unsigned)nvml_config.gpus)
        return NVML_INVALID_ARGUMENT;
    *device = &nvml_config.gpu[index];
    return of_fault(nvml_config.gpu[index].fault);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    nvmlReturn_t result = refresh();
    for (int index = 0; result == NVML_SUCCESS && index < nvml_config.gpus; index++)
        if (strcmp(nvml_config.gpu[index].uuid, uuid) == 0)
            return nvmlDeviceGetHandleByIndex_v2((unsigned)index, device);
    return result == NVML_SUCCESS ? NVML_NOT_FOUND : result;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    nvmlReturn_t result = nvml_check(device);
    return result == NVML_SUCCESS ? put_text(name, length, nvml_config.name) : result;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    nvmlReturn_t result = nvml_check(device);
    return result == NVML_SUCCESS ? put_text(uuid, length, device->uuid) : result;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index)
{
    nvmlReturn_t result = nvml_check(device);
    *index = (unsigned)(device - nvml_config.gpu);
    return result;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor)
{
    nvmlReturn_t result = nvml_check(device);
    *minor = result == NVML_SUCCESS ? (unsigned)device->minor : 0;
    return result;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    nvmlReturn_t result = nvml_check(device);
    if (result != NVML_SUCCESS)
        return result;
    memset(info, 0, sizeof *info);
    sscanf(device->bus_id, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    info->pciDeviceId = nvml_config.pci_device << 16 | 0x10de;
    snprintf(info->busId, sizeof info->busId, "%08X:%02X:%02X.0", info->domain, info->bus, info->device);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%.12s", info->busId + 4);
    return NVML_SUCCESS;
}
