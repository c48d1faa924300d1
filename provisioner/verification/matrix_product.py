"""Multiply two matrices on every CUDA device and compare every number with the right one.

Runs inside a container, on whatever Python 3 the host has: standard library only, nothing of
rigup, no newer Python than the agent needs (3.8 has no ``zip(strict=True)``).
``matrix_product.py PTX_FILE`` prints a line per device::

    right GPU-1234…           every element is exactly right
    wrong GPU-1234… 3 5 7.0 9.0   row, column, what came, what is right
    busy GPU-1234… 46         somebody else has it for himself, or no memory is left
    error cuInit 999          the driver refused this call

The numbers are small integers, which 32-bit floats hold exactly in any order of summation.
"""

from __future__ import annotations

import ctypes
import sys

SIZE = 64
BLOCK = 16
OUT_OF_MEMORY, UNAVAILABLE = 2, 46  # CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_DEVICE_UNAVAILABLE


class CudaError(Exception):
    pass


class Driver:
    """The functions of libcuda; each raises CudaError(name, code) unless it returns 0."""

    def __init__(self, path: str = "libcuda.so.1") -> None:
        self._library = ctypes.CDLL(path)

    def __call__(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise CudaError(name, code)


def matrices() -> tuple[list[float], list[float]]:
    places = [(row, column) for row in range(SIZE) for column in range(SIZE)]
    left = [float((7 * row + 3 * column) % 11 - 5) for row, column in places]
    right = [float((5 * row + 2 * column) % 13 - 6) for row, column in places]
    return left, right


def expected() -> list[float]:
    left, right = matrices()
    columns = [right[column::SIZE] for column in range(SIZE)]
    rows = [left[row * SIZE : (row + 1) * SIZE] for row in range(SIZE)]
    return [sum(x * y for x, y in zip(row, col)) for row in rows for col in columns]  # noqa: B905


def product(driver: Driver, ptx: bytes) -> list[float]:
    """On the current context's device."""
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    driver("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(ptx))
    driver("cuModuleGetFunction", ctypes.byref(function), module, b"matrix_product")
    numbers = ctypes.c_float * (SIZE * SIZE)
    places = [ctypes.c_uint64() for _ in range(3)]
    for place in places:
        driver("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(ctypes.sizeof(numbers)))
    for place, values in zip(places, matrices()):  # noqa: B905
        data = numbers(*values)
        driver("cuMemcpyHtoD_v2", place, data, ctypes.c_size_t(ctypes.sizeof(data)))
    launch(driver, function, [*places, ctypes.c_uint32(SIZE)])
    result = numbers()
    driver("cuMemcpyDtoH_v2", result, places[2], ctypes.c_size_t(ctypes.sizeof(result)))
    return list(result)


def launch(driver: Driver, function: ctypes.c_void_p, parameters: list[object]) -> None:
    pointers = (ctypes.c_void_p * len(parameters))(
        *[ctypes.addressof(parameter) for parameter in parameters]  # type: ignore[arg-type]
    )
    blocks = SIZE // BLOCK
    grid = [ctypes.c_uint(number) for number in (blocks, blocks, 1, BLOCK, BLOCK, 1, 0)]
    driver("cuLaunchKernel", function, *grid, None, pointers, None)
    driver("cuCtxSynchronize")


def name_of(driver: Driver, device: ctypes.c_int) -> str:
    """As nvidia-smi writes it: ``GPU-`` and 8-4-4-4-12 hexadecimal digits."""
    raw = (ctypes.c_ubyte * 16)()
    driver("cuDeviceGetUuid", ctypes.byref(raw), device)
    digits = bytes(raw).hex()
    return "GPU-" + "-".join(
        digits[start:end] for start, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    )


def judge(driver: Driver, index: int, ptx: bytes, right: list[float]) -> str:
    device, context = ctypes.c_int(), ctypes.c_void_p()
    driver("cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
    name = name_of(driver, device)
    try:
        driver("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        driver("cuCtxSetCurrent", context)
        found = product(driver, ptx)
        driver("cuDevicePrimaryCtxRelease_v2", device)
    except CudaError as error:
        if error.args[1] in (OUT_OF_MEMORY, UNAVAILABLE):
            return f"busy {name} {error.args[1]}"
        raise
    for place, (one, other) in enumerate(zip(found, right)):  # noqa: B905
        if one != other:
            return f"wrong {name} {place // SIZE} {place % SIZE} {one} {other}"
    return f"right {name}"


def main(path: str) -> None:
    with open(path, "rb") as file:
        ptx = file.read() + b"\0"
    try:
        driver, count = Driver(), ctypes.c_int()
        driver("cuInit", ctypes.c_uint(0))
        driver("cuDeviceGetCount", ctypes.byref(count))
        right = expected()
        for index in range(count.value):
            print(judge(driver, index, ptx, right), flush=True)
    except CudaError as error:
        print("error", *error.args)
    except (OSError, AttributeError) as error:
        print("error", error)


if __name__ == "__main__":
    main(sys.argv[1])
