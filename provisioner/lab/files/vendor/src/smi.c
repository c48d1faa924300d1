/* Stand-in for nvidia-smi: the banner, -L, -q, -pm and the queries that tools use. Linked with the
 * stand-in library statically, so that it runs in any container. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvml.h"
#include "smi_fields.h"

#define EXIT_BAD_ARGUMENT 2
#define EXIT_NO_PERMISSION 4
#define EXIT_NOT_FOUND 6
#define EXIT_NO_DRIVER 9
#define EXIT_OTHER 255
#define MAX_FIELDS 64

static int fail_init(nvmlReturn_t code)
{
    if (code == NVML_DRIVER_NOT_LOADED) {
        puts("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure "
             "that the latest NVIDIA driver is installed and running.\n");
        return EXIT_NO_DRIVER;
    }
    printf("Failed to initialize NVML: %s\n", nvmlErrorString(code));
    return code == NVML_LIB_RM_VERSION_MISMATCH ? 18 : EXIT_OTHER;
}

static unsigned count_gpus(void)
{
    unsigned count = 0;
    nvmlDeviceGetCount_v2(&count);
    return count;
}

static int list(void)
{
    char name[96], uuid[96];
    nvmlDevice_t device;
    int status = EXIT_SUCCESS;
    for (unsigned index = 0; index < count_gpus(); index++) {
        nvmlReturn_t result = nvmlDeviceGetHandleByIndex_v2(index, &device);
        if (result == NVML_SUCCESS) {
            nvmlDeviceGetName(device, name, sizeof name);
            nvmlDeviceGetUUID(device, uuid, sizeof uuid);
            printf("GPU %u: %s (UUID: %s)\n", index, name, uuid);
            continue;
        }
        printf("Unable to determine the device handle for GPU%u: %s\n", index, nvmlErrorString(result));
        status = result == NVML_GPU_IS_LOST ? 15 : EXIT_OTHER;
    }
    return status;
}

static void banner(void)
{
    char driver[96];
    int cuda = 0;
    nvmlSystemGetDriverVersion(driver, sizeof driver);
    nvmlSystemGetCudaDriverVersion_v2(&cuda);
    puts("+-----------------------------------------------------------------------------------------+");
    printf("| NVIDIA-SMI %-15s Driver Version: %-15s CUDA Version: %d.%-2d SIMULATED |\n", driver,
           driver, cuda / 1000, cuda % 1000 / 10);
    puts("+-----------------------------------------+------------------------+----------------------+");
}

static int table(void)
{
    char name[96], bus[32], used[48], total[48], load[48], celsius[48];
    nvmlDevice_t device;
    banner();
    for (unsigned index = 0; index < count_gpus(); index++) {
        if (nvmlDeviceGetHandleByIndex_v2(index, &device) != NVML_SUCCESS) {
            printf("| %3u  ERR!  GPU is lost or does not answer (SIMULATED) %35s|\n", index, "");
            continue;
        }
        nvmlDeviceGetName(device, name, sizeof name);
        smi_value("pci.bus_id", index, device, 1, bus, sizeof bus);
        smi_value("memory.used", index, device, 0, used, sizeof used);
        smi_value("memory.total", index, device, 0, total, sizeof total);
        smi_value("utilization.gpu", index, device, 0, load, sizeof load);
        smi_value("temperature.gpu", index, device, 0, celsius, sizeof celsius);
        printf("| %3u  %-33s  | %s       | %20s |\n", index, name, bus, load);
        printf("| %8sC %30s| %9s / %9s  | %20s |\n", celsius, "", used, total, "");
    }
    puts("+-----------------------------------------+------------------------+----------------------+");
    return EXIT_SUCCESS;
}

static int full(void)
{
    static const char *const shown[] = {"uuid", "persistence_mode", "mig.mode.current", "fan.speed", "pstate",
                                        "memory.total", "memory.used", "utilization.gpu", "temperature.gpu",
                                        "power.draw", "power.limit", NULL};
    char value[128];
    nvmlDevice_t device;
    nvmlSystemGetDriverVersion(value, sizeof value);
    printf("\n==============NVSMI LOG (SIMULATED)==============\n\n%-40s: %s\n%-40s: %u\n", "Driver Version",
           value, "Attached GPUs", count_gpus());
    for (unsigned index = 0; index < count_gpus(); index++) {
        if (nvmlDeviceGetHandleByIndex_v2(index, &device) != NVML_SUCCESS)
            continue;
        smi_value("pci.bus_id", index, device, 1, value, sizeof value);
        printf("GPU %s\n", value);
        smi_value("name", index, device, 1, value, sizeof value);
        printf("    %-36s: %s\n", "Product Name", value);
        for (int field = 0; shown[field] != NULL; field++) {
            smi_value(shown[field], index, device, 1, value, sizeof value);
            printf("    %-36s: %s\n", shown[field], value);
        }
    }
    return EXIT_SUCCESS;
}

static int persistence(unsigned mode)
{
    nvmlDevice_t device;
    for (unsigned index = 0; index < count_gpus(); index++) {
        if (nvmlDeviceGetHandleByIndex_v2(index, &device) != NVML_SUCCESS)
            continue;
        if (nvmlDeviceSetPersistenceMode(device, mode) != NVML_SUCCESS) {
            puts("Unable to set persistence mode: Insufficient Permissions");
            return EXIT_NO_PERMISSION;
        }
        printf("%s persistence mode for GPU %u.\n", mode ? "Enabled" : "Disabled", index);
    }
    puts("All done.");
    return EXIT_SUCCESS;
}

static int split(char *text, char **fields)
{
    int count = 0;
    for (char *field = strtok(text, ","); field != NULL && count < MAX_FIELDS; field = strtok(NULL, ","))
        fields[count++] = field + strspn(field, " ");
    return count;
}

static void print_header(char **fields, int count)
{
    for (int field = 0; field < count; field++) {
        const char *unit = smi_unit(fields[field]);
        printf("%s%s%s%s%s", field ? ", " : "", fields[field], *unit ? " [" : "", unit, *unit ? "]" : "");
    }
    putchar('\n');
}

static int query(char *fields_text, const char *format, const char *only)
{
    char *fields[MAX_FIELDS], value[128];
    int count = split(fields_text, fields), units = strstr(format, "nounits") == NULL;
    nvmlDevice_t device;
    for (int field = 0; field < count; field++)
        if (!smi_known(fields[field])) {
            printf("Field \"%s\" is not a valid field to query.\n\n", fields[field]);
            return EXIT_BAD_ARGUMENT;
        }
    if (strstr(format, "noheader") == NULL)
        print_header(fields, count);
    for (unsigned index = 0; index < count_gpus(); index++) {
        nvmlReturn_t result = nvmlDeviceGetHandleByIndex_v2(index, &device);
        if (only != NULL && (unsigned)atoi(only) != index)
            continue;
        if (result != NVML_SUCCESS) {
            printf("Unable to determine the device handle for GPU%u: %s\n", index, nvmlErrorString(result));
            return result == NVML_GPU_IS_LOST ? 15 : EXIT_OTHER;
        }
        for (int field = 0; field < count; field++) {
            smi_value(fields[field], index, device, units, value, sizeof value);
            printf("%s%s", field ? ", " : "", value);
        }
        putchar('\n');
    }
    return EXIT_SUCCESS;
}

static int app_known(const char *field)
{
    return strcmp(field, "pid") == 0 || strcmp(field, "gpu_uuid") == 0 ||
           strcmp(field, "used_memory") == 0 || strcmp(field, "used_gpu_memory") == 0;
}

static void print_app(char **fields, int count, const char *uuid, const nvmlProcessInfo_t *app, int units)
{
    for (int field = 0; field < count; field++) {
        fputs(field ? ", " : "", stdout);
        if (strcmp(fields[field], "pid") == 0)
            printf("%u", app->pid);
        else if (strcmp(fields[field], "gpu_uuid") == 0)
            fputs(uuid, stdout);
        else
            printf("%llu%s", app->usedGpuMemory >> 20, units ? " MiB" : "");
    }
    putchar('\n');
}

static int query_apps(char *fields_text, const char *format)
{
    char *fields[MAX_FIELDS], uuid[96];
    int fields_count = split(fields_text, fields);
    nvmlDevice_t device;
    nvmlProcessInfo_t infos[64];
    for (int field = 0; field < fields_count; field++)
        if (!app_known(fields[field])) {
            printf("Field \"%s\" is not a valid field to query.\n\n", fields[field]);
            return EXIT_BAD_ARGUMENT;
        }
    if (strstr(format, "noheader") == NULL)
        print_header(fields, fields_count);
    for (unsigned index = 0; index < count_gpus(); index++) {
        unsigned count = 64;
        if (nvmlDeviceGetHandleByIndex_v2(index, &device) != NVML_SUCCESS ||
            nvmlDeviceGetComputeRunningProcesses_v3(device, &count, infos) != NVML_SUCCESS)
            continue;
        nvmlDeviceGetUUID(device, uuid, sizeof uuid);
        for (unsigned app = 0; app < count; app++)
            print_app(fields, fields_count, uuid, &infos[app], strstr(format, "nounits") == NULL);
    }
    return EXIT_SUCCESS;
}

static char *value_of(const char *argument, const char *option)
{
    size_t length = strlen(option);
    return strncmp(argument, option, length) == 0 && argument[length] == '='
               ? (char *)argument + length + 1
               : NULL;
}

struct options {
    int action; /* t: table, L: list, q: everything, f: fields, a: apps, p: persistence, v, h */
    char *fields;
    const char *format, *only;
    unsigned mode;
};

/* "--name=value" options; 1 when it was one. */
static int long_option(struct options *options, const char *argument)
{
    char *value;
    if ((value = value_of(argument, "--query-gpu")) != NULL) {
        options->action = 'f';
        options->fields = value;
    } else if ((value = value_of(argument, "--query-compute-apps")) != NULL) {
        options->action = 'a';
        options->fields = value;
    } else if ((value = value_of(argument, "--format")) != NULL)
        options->format = value;
    else if ((value = value_of(argument, "--id")) != NULL)
        options->only = value;
    else
        return 0;
    return 1;
}

/* Options without a value; 1 when it was one. */
static int flag(struct options *options, const char *argument)
{
    static const struct {
        const char *name;
        int action;
    } flags[] = {{"-L", 'L'}, {"--list-gpus", 'L'}, {"-q", 'q'}, {"--query", 'q'}, {"--version", 'v'},
                 {"--help-query-gpu", 'h'}};
    for (size_t index = 0; index < sizeof flags / sizeof flags[0]; index++)
        if (strcmp(argument, flags[index].name) == 0) {
            options->action = flags[index].action;
            return 1;
        }
    return 0;
}

/* -1, or the index of the first argument that is not understood. */
static int parse(struct options *options, int argc, char **argv)
{
    for (int index = 1; index < argc; index++) {
        if (long_option(options, argv[index]) || flag(options, argv[index]))
            continue;
        if (strcmp(argv[index], "-i") == 0 && index + 1 < argc)
            options->only = argv[++index];
        else if (strcmp(argv[index], "-pm") == 0 && index + 1 < argc) {
            options->action = 'p';
            options->mode = (unsigned)atoi(argv[++index]);
        } else
            return index;
    }
    return -1;
}

static int act(const struct options *options)
{
    switch (options->action) {
    case 'f': return query(options->fields, options->format, options->only);
    case 'a': return query_apps(options->fields, options->format);
    case 'L': return list();
    case 'q': return full();
    case 'p': return persistence(options->mode);
    default: return table();
    }
}

int main(int argc, char **argv)
{
    struct options options = {.action = 't', .format = "csv"};
    int bad = parse(&options, argc, argv);
    nvmlReturn_t result;
    if (bad >= 0) {
        printf("Invalid combination of input arguments. (SIMULATED) %s\n", argv[bad]);
        return EXIT_BAD_ARGUMENT;
    }
    if (options.action == 'h')
        return smi_help();
    if ((result = nvmlInit_v2()) != NVML_SUCCESS)
        return fail_init(result);
    if (options.action == 'v')
        return printf("NVIDIA-SMI version  : %s (SIMULATED)\n", DRIVER_VERSION) < 0;
    if (count_gpus() == 0) {
        puts("No devices were found");
        return EXIT_NOT_FOUND;
    }
    return act(&options);
}
