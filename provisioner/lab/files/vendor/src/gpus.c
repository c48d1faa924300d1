#include "gpus.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

#ifndef CONFIG_PATH
#define CONFIG_PATH "/etc/rigup-lab-gpus.conf"
#endif
#ifndef DEVICE_DIR
#define DEVICE_DIR "/dev"
#endif
#define WAVE_SECONDS 60

static int word_index(const char *word, const char *const *words)
{
    for (int index = 0; words[index] != NULL; index++)
        if (strcmp(word, words[index]) == 0)
            return index;
    return 0;
}

static enum load to_load(const char *word)
{
    static const char *const words[] = {"idle", "wave", "busy", NULL};
    return (enum load)word_index(word, words);
}

static enum fault to_fault(const char *word)
{
    static const char *const words[] = {"none", "lost", "reset", "hot", "ecc", "unknown", "hang", NULL};
    return (enum fault)word_index(word, words);
}

static int to_mig(const char *word)
{
    return strcmp(word, "on") == 0 ? 1 : strcmp(word, "off") == 0 ? 0 : -1;
}

static int node_exists(int minor)
{
    char path[256];
    snprintf(path, sizeof path, DEVICE_DIR "/nvidia%d", minor);
    return access(path, F_OK) == 0;
}

static int alive(unsigned pid)
{
    return kill((pid_t)pid, 0) == 0 || errno == EPERM;
}

static void add_gpu(struct config *config, const char *rest, enum load load)
{
    struct gpu gpu = {.load = load};
    if (config->gpus == MAX_GPUS)
        return;
    if (sscanf(rest, "%d %63s %31s", &gpu.minor, gpu.uuid, gpu.bus_id) == 3 && node_exists(gpu.minor))
        config->gpu[config->gpus++] = gpu;
}

static void add_process(struct config *config, const char *rest)
{
    struct process process;
    if (config->processes == MAX_PROCESSES)
        return;
    if (sscanf(rest, "%d %u %llu", &process.minor, &process.pid, &process.mib) == 3 && alive(process.pid))
        config->process[config->processes++] = process;
}

/* "WHICH WORD", where WHICH is a minor number or "all". */
static void set_behaviour(struct config *config, const char *rest, int is_fault)
{
    char which[16], word[16];
    int minor = -1;
    if (sscanf(rest, "%15s %15s", which, word) != 2)
        return;
    sscanf(which, "%d", &minor);
    for (int index = 0; index < config->gpus; index++) {
        struct gpu *gpu = &config->gpu[index];
        if (strcmp(which, "all") != 0 && gpu->minor != minor)
            continue;
        if (is_fault)
            gpu->fault = to_fault(word);
        else
            gpu->load = to_load(word);
    }
}

static void read_line(struct config *config, char *line)
{
    char *rest = line + strcspn(line, " ");
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '#' || *rest == '\0')
        return;
    *rest++ = '\0';
    if (strcmp(line, "name") == 0)
        snprintf(config->name, sizeof config->name, "%s", rest);
    else if (strcmp(line, "pci_device") == 0)
        sscanf(rest, "%x", &config->pci_device);
    else if (strcmp(line, "memory_mib") == 0)
        sscanf(rest, "%llu", &config->memory_mib);
    else if (strcmp(line, "compute_capability") == 0)
        sscanf(rest, "%d.%d", &config->capability_major, &config->capability_minor);
    else if (strcmp(line, "power_limit_w") == 0)
        sscanf(rest, "%u", &config->power_limit_w);
    else if (strcmp(line, "fan") == 0)
        config->fan = strcmp(rest, "yes") == 0;
    else if (strcmp(line, "ecc") == 0)
        config->ecc = strcmp(rest, "yes") == 0;
    else if (strcmp(line, "mig") == 0)
        config->mig = to_mig(rest);
    else if (strcmp(line, "gpu") == 0)
        add_gpu(config, rest, LOAD_WAVE);
    else if (strcmp(line, "load") == 0 || strcmp(line, "fault") == 0)
        set_behaviour(config, rest, line[0] == 'f');
    else if (strcmp(line, "process") == 0)
        add_process(config, rest);
}

int gpus_read(struct config *config)
{
    char line[256];
    FILE *file = fopen(CONFIG_PATH, "re");
    memset(config, 0, sizeof *config);
    if (file == NULL)
        return -1;
    while (fgets(line, sizeof line, file) != NULL)
        read_line(config, line);
    fclose(file);
    return 0;
}

unsigned gpus_percent(const struct gpu *gpu)
{
    long long second = (long long)time(NULL) + 17LL * gpu->minor;
    long long step = second % WAVE_SECONDS;
    long long rising = step < WAVE_SECONDS / 2 ? step : WAVE_SECONDS - step; /* 0..30..0 */
    if (gpu->load == LOAD_IDLE)
        return 0;
    if (gpu->load == LOAD_BUSY)
        return (unsigned)(94 + second % 6);
    return (unsigned)(5 + rising * 3);
}
