#include "smi_fields.h"

#include <stdio.h>
#include <string.h>

#define NOT_AVAILABLE "[N/A]"
#define MIB_SHIFT 20

enum kind {
    INDEX, COUNT, UUID, NAME, DRIVER, BUS, CAPABILITY, TOTAL, USED, FREE, LOAD, MEMORY_LOAD, CELSIUS, DRAW,
    LIMIT, FAN, PSTATE, SM_CLOCK, MEMORY_CLOCK, PERSISTENCE, MIG, ECC
};

struct field {
    const char *name;
    enum kind kind;
    const char *unit;
};

static const struct field FIELDS[] = {
    {"index", INDEX, ""},
    {"count", COUNT, ""},
    {"uuid", UUID, ""},
    {"gpu_uuid", UUID, ""},
    {"name", NAME, ""},
    {"gpu_name", NAME, ""},
    {"driver_version", DRIVER, ""},
    {"pci.bus_id", BUS, ""},
    {"gpu_bus_id", BUS, ""},
    {"compute_cap", CAPABILITY, ""},
    {"memory.total", TOTAL, "MiB"},
    {"memory.used", USED, "MiB"},
    {"memory.free", FREE, "MiB"},
    {"utilization.gpu", LOAD, "%"},
    {"utilization.memory", MEMORY_LOAD, "%"},
    {"temperature.gpu", CELSIUS, ""},
    {"power.draw", DRAW, "W"},
    {"power.limit", LIMIT, "W"},
    {"enforced.power.limit", LIMIT, "W"},
    {"fan.speed", FAN, "%"},
    {"pstate", PSTATE, ""},
    {"clocks.sm", SM_CLOCK, "MHz"},
    {"clocks.current.sm", SM_CLOCK, "MHz"},
    {"clocks.mem", MEMORY_CLOCK, "MHz"},
    {"clocks.current.memory", MEMORY_CLOCK, "MHz"},
    {"persistence_mode", PERSISTENCE, ""},
    {"mig.mode.current", MIG, ""},
    {"mig.mode.pending", MIG, ""},
    {"ecc.errors.uncorrected.volatile.total", ECC, ""},
};

#define FIELD_COUNT (sizeof FIELDS / sizeof FIELDS[0])

static const struct field *find(const char *name)
{
    for (size_t index = 0; index < FIELD_COUNT; index++)
        if (strcmp(FIELDS[index].name, name) == 0)
            return &FIELDS[index];
    return NULL;
}

int smi_known(const char *field) { return find(field) != NULL; }

const char *smi_unit(const char *field)
{
    const struct field *found = find(field);
    return found == NULL ? "" : found->unit;
}

int smi_help(void)
{
    puts("List of valid properties to query for the switch \"--query-gpu=\": (SIMULATED)\n");
    for (size_t index = 0; index < FIELD_COUNT; index++)
        printf("\"%s\"\n", FIELDS[index].name);
    return 0;
}

static nvmlReturn_t text(enum kind kind, nvmlDevice_t device, char *into, size_t size)
{
    nvmlPciInfo_t pci;
    nvmlReturn_t result;
    unsigned current = 0, pending;
    int major, minor;
    switch (kind) {
    case UUID: return nvmlDeviceGetUUID(device, into, (unsigned)size);
    case NAME: return nvmlDeviceGetName(device, into, (unsigned)size);
    case DRIVER: return nvmlSystemGetDriverVersion(into, (unsigned)size);
    case BUS:
        result = nvmlDeviceGetPciInfo_v3(device, &pci);
        snprintf(into, size, "%s", pci.busId);
        return result;
    case CAPABILITY:
        result = nvmlDeviceGetCudaComputeCapability(device, &major, &minor);
        snprintf(into, size, "%d.%d", major, minor);
        return result;
    case PERSISTENCE:
        result = nvmlDeviceGetPersistenceMode(device, &current);
        snprintf(into, size, "%s", current ? "Enabled" : "Disabled");
        return result;
    case MIG:
        result = nvmlDeviceGetMigMode(device, &current, &pending);
        snprintf(into, size, "%s", current ? "Enabled" : "Disabled");
        return result;
    case PSTATE:
        result = nvmlDeviceGetPerformanceState(device, &current);
        snprintf(into, size, "P%u", current);
        return result;
    default: return NVML_NOT_FOUND;
    }
}

static nvmlReturn_t measure(enum kind kind, unsigned index, nvmlDevice_t device, double *value)
{
    nvmlMemory_t memory;
    nvmlUtilization_t rates;
    nvmlReturn_t result = NVML_SUCCESS;
    unsigned number = 0;
    unsigned long long errors = 0;
    switch (kind) {
    case INDEX: number = index; break;
    case COUNT: result = nvmlDeviceGetCount_v2(&number); break;
    case CELSIUS: result = nvmlDeviceGetTemperature(device, 0, &number); break;
    case FAN: result = nvmlDeviceGetFanSpeed(device, &number); break;
    case SM_CLOCK: result = nvmlDeviceGetClockInfo(device, 1, &number); break;
    case MEMORY_CLOCK: result = nvmlDeviceGetClockInfo(device, 2, &number); break;
    case DRAW: result = nvmlDeviceGetPowerUsage(device, &number); break;
    case LIMIT: result = nvmlDeviceGetEnforcedPowerLimit(device, &number); break;
    case ECC:
        result = nvmlDeviceGetTotalEccErrors(device, 1, 0, &errors);
        number = (unsigned)errors;
        break;
    case LOAD:
    case MEMORY_LOAD:
        result = nvmlDeviceGetUtilizationRates(device, &rates);
        number = kind == LOAD ? rates.gpu : rates.memory;
        break;
    default:
        result = nvmlDeviceGetMemoryInfo(device, &memory);
        errors = kind == TOTAL ? memory.total : kind == USED ? memory.used : memory.free;
        number = (unsigned)(errors >> MIB_SHIFT);
    }
    *value = kind == DRAW || kind == LIMIT ? number / 1000.0 : number;
    return result;
}

static int is_text(enum kind kind)
{
    return kind == UUID || kind == NAME || kind == DRIVER || kind == BUS || kind == CAPABILITY ||
           kind == PERSISTENCE || kind == MIG || kind == PSTATE;
}

void smi_value(const char *field, unsigned index, nvmlDevice_t device, int units, char *into, size_t size)
{
    const struct field *found = find(field);
    const char *unit = units && found != NULL ? found->unit : "";
    double value = 0;
    nvmlReturn_t result = NVML_NOT_FOUND;
    if (found != NULL && is_text(found->kind))
        result = text(found->kind, device, into, size);
    else if (found != NULL) {
        result = measure(found->kind, index, device, &value);
        snprintf(into, size, "%.*f%s%s", strcmp(found->unit, "W") == 0 ? 2 : 0, value, *unit ? " " : "", unit);
    }
    if (result != NVML_SUCCESS)
        snprintf(into, size, "%s", NOT_AVAILABLE);
}
