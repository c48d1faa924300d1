"""The CUDA proof where there is no GPU: the program against a library that checks its calls, and
the kernel's own instructions, run one by one. Neither shows that a GPU computes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from ptx import Thread, body_of

from provisioner.verification import matrix_product

HERE = Path(matrix_product.__file__).parent
KERNEL = HERE / "matrix_product.ptx"
UUIDS = [
    "GPU-0a0b0c0d-0e0f-1011-1213-141516171819",
    "GPU-0b0c0d0e-0f10-1112-1314-15161718191a",
]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("cuda")
    source = Path(__file__).parents[1] / "support" / "fake_libcuda.c"
    words = [compiler, "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)]
    subprocess.run(words, check=True)
    return folder


def run(libraries: Path | None, mode: str = "") -> list[str]:
    """The program as it runs in the container."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries or ""), "FAKE_CUDA": mode}
    words = [sys.executable, "-I", "-S", str(HERE / "matrix_product.py"), str(KERNEL)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_every_device_answers(libraries: Path) -> None:
    assert run(libraries) == [f"right {uuid}" for uuid in UUIDS]


def test_one_wrong_number_is_found_with_its_place(libraries: Path) -> None:
    right = matrix_product.expected()[matrix_product.SIZE + 2]
    assert run(libraries, "wrong") == [f"wrong {uuid} 1 2 {right + 1} {right}" for uuid in UUIDS]


def test_a_device_that_others_use_is_busy(libraries: Path) -> None:
    assert run(libraries, "busy") == [f"right {UUIDS[0]}", f"busy {UUIDS[1]} 46"]


def test_a_driver_that_refuses_says_at_which_call(libraries: Path) -> None:
    assert run(libraries, "refused") == ["error cuInit 999"]


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="a driver may be installed")
def test_no_driver_library() -> None:
    [line] = run(None)
    assert line.startswith("error libcuda.so.1: cannot open shared object file")


@pytest.mark.parametrize("size", [1, 4, 6])
def test_the_kernel_multiplies(size: int) -> None:
    left = [float((3 * i) % 7 - 3) for i in range(size * size)]
    right = [float((5 * i) % 11 - 5) for i in range(size * size)]
    memory = bytearray(struct.pack(f"<{2 * size * size}f", *left, *right) + bytes(4 * size * size))
    given = {"left": 0, "right": 4 * size * size, "product": 8 * size * size, "size": size}
    code = body_of(KERNEL.read_text())
    blocks, width = range(2), 4
    for grid in ((x, y) for x in blocks for y in blocks):
        for thread in ((x, y) for x in range(width) for y in range(width)):
            place = {
                **{f"%ctaid.{axis}": at for axis, at in zip("xy", grid, strict=True)},
                **{f"%tid.{axis}": at for axis, at in zip("xy", thread, strict=True)},
                **{f"%ntid.{axis}": width for axis in "xy"},
            }
            Thread(memory, {**given, **place}).run(*code)
    found = struct.unpack_from(f"<{size * size}f", memory, 8 * size * size)
    assert list(found) == [
        sum(left[row * size + k] * right[k * size + column] for k in range(size))
        for row in range(size)
        for column in range(size)
    ]


def test_the_grid_covers_the_matrix() -> None:
    assert matrix_product.SIZE % matrix_product.BLOCK == 0
    assert matrix_product.BLOCK**2 <= 1024, "threads that a block may have"


def test_any_driver_since_535_takes_the_kernel() -> None:
    text = KERNEL.read_text()
    assert ".version 6.0\n" in text
    assert ".target sm_50\n" in text
