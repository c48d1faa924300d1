/* The fields of nvidia-smi --query-gpu. */
#ifndef RIGUP_LAB_SMI_FIELDS_H
#define RIGUP_LAB_SMI_FIELDS_H

#include <stddef.h>

#include "nvml.h"

int smi_known(const char *field);
const char *smi_unit(const char *field);

/* The field's text; "[N/A]" where the GPU has no such thing. */
void smi_value(const char *field, unsigned index, nvmlDevice_t device, int units, char *into, size_t size);

/* Prints every known field, as --help-query-gpu does. */
int smi_help(void);

#endif
