/* The simulated GPUs of a practice host, as /etc/rigup-lab-gpus.conf describes them. */
#ifndef RIGUP_LAB_GPUS_H
#define RIGUP_LAB_GPUS_H

#define MAX_GPUS 16
#define MAX_PROCESSES 64
#define MIB (1024ULL * 1024ULL)

enum fault { FAULT_NONE, FAULT_LOST, FAULT_RESET, FAULT_HOT, FAULT_ECC, FAULT_UNKNOWN, FAULT_HANG };
enum load { LOAD_IDLE, LOAD_WAVE, LOAD_BUSY };

struct gpu {
    int minor; /* its device node is /dev/nvidia<minor> */
    char uuid[64];
    char bus_id[32]; /* 0000:17:00.0 */
    enum fault fault;
    enum load load;
};

struct process {
    int minor;
    unsigned pid;
    unsigned long long mib;
};

struct config {
    char name[96];
    unsigned pci_device; /* such as 0x2330 */
    unsigned long long memory_mib;
    int capability_major, capability_minor;
    unsigned power_limit_w;
    int fan, ecc;
    int mig; /* -1: no such thing, 0: off, 1: on */
    int gpus, processes;
    struct gpu gpu[MAX_GPUS];
    struct process process[MAX_PROCESSES];
};

/* Reads the file, keeping only GPUs whose device node is there (in a container: those it was
 * given), in file order. 0 on success, -1 when there is no such file. */
int gpus_read(struct config *config);

/* Load of a GPU in percent, a function of the time alone. */
unsigned gpus_percent(const struct gpu *gpu);

#endif
