/* Shared by the library's two halves. */
#ifndef RIGUP_LAB_NVML_INTERNAL_H
#define RIGUP_LAB_NVML_INTERNAL_H

#include "gpus.h"
#include "nvml.h"

extern struct config nvml_config;

/* Is this handle a GPU that is still there and answers? Refreshes the table. */
nvmlReturn_t nvml_check(nvmlDevice_t device);

#endif
