/* A file for modinfo(8) to read; it is never loaded. */
#define INFO(tag, text) __attribute__((section(".modinfo"), used)) static const char tag[] = text

INFO(version, "version=" DRIVER_VERSION);
INFO(license, "license=Dual MIT/GPL");
INFO(description, "description=SIMULATED nvidia module of a rigup practice host");
