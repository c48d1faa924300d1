/* Stands in for libcuda.so.1 where there is no GPU: checks how it is called, and multiplies itself.
 * FAKE_CUDA=wrong: one number is wrong; busy, refused: a device or the library says no. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int told(const char *what) {
    const char *mode = getenv("FAKE_CUDA");
    return mode != NULL && strcmp(mode, what) == 0;
}
int cuInit(unsigned flags) { return flags == 0 && !told("refused") ? 0 : 999; }
int cuDeviceGetCount(int *count) { return *count = 2, 0; }
int cuDeviceGet(int *device, int index) { return *device = 10 + index, 0; }
int cuDeviceGetUuid(unsigned char *uuid, int device) {
    for (int i = 0; i < 16; i++) uuid[i] = (unsigned char)(device + i);
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = malloc(1);
    return told("busy") && device == 11 ? 46 : 0;
}
int cuCtxSetCurrent(void *context) { return context == NULL ? 1 : 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return device >= 10 ? 0 : 1; }
int cuModuleLoadData(void **module, const char *ptx) {
    *module = (void *)ptx;
    return strstr(ptx, ".entry matrix_product(") != NULL ? 0 : 218;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = module;
    return strcmp(name, "matrix_product") == 0 ? 0 : 500;
}
int cuMemAlloc_v2(uint64_t *place, size_t size) { return *place = (uint64_t)calloc(1, size), 0; }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) {
    return memcpy((void *)to, from, size), 0;
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) {
    return memcpy(to, (void *)from, size), 0;
}
int cuCtxSynchronize(void) { return 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **parameters, void **extra) {
    const float *a = (const float *)*(uint64_t *)parameters[0];
    const float *b = (const float *)*(uint64_t *)parameters[1];
    float *c = (float *)*(uint64_t *)parameters[2];
    uint32_t n = *(uint32_t *)parameters[3];
    if (function == NULL || gx * bx < n || gy * by < n || gz * bz != 1) return 1;
    if (bx * by > 1024 || shared != 0 || stream != NULL || extra != NULL) return 1;
    for (uint32_t row = 0; row < n; row++)
        for (uint32_t column = 0; column < n; column++) {
            float sum = 0;
            for (uint32_t k = 0; k < n; k++) sum += a[row * n + k] * b[k * n + column];
            c[row * n + column] = sum;
        }
    if (told("wrong")) c[n + 2] += 1;
    return 0;
}
