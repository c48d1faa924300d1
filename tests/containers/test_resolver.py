from __future__ import annotations

import pytest

from provisioner.containers.catalogue import load_catalogue, parse_catalogue, parse_version
from provisioner.containers.resolver import resolve_image
from provisioner.errors import BlockedError

V100, T4, A100, RTX3090, L40S, H100 = "7.0", "7.5", "8.0", "8.6", "8.9", "9.0"
B200, B300, RTX5090, P100, K80, NEXT = "10.0", "10.3", "12.0", "6.0", "3.7", "13.0"


@pytest.mark.parametrize(
    ("driver", "gpus", "expected"),
    [
        ("595.91.07", [H100], "2.14.0-cuda13.2"),
        ("595.91.07", [H100] * 8, "2.14.0-cuda13.2"),
        ("580.173.02", [H100], "2.14.0-cuda13.0"),
        ("580.65.06", [A100], "2.14.0-cuda13.0"),
        ("610.57.04", [L40S], "2.14.0-cuda13.2"),
        ("595.71.05", [T4, RTX3090], "2.14.0-cuda13.2"),
        ("535.261.03", [A100], "2.14.0-cuda12.6"),
        ("550.163.01", [L40S], "2.14.0-cuda12.6"),
        ("525.60.13", [A100], "2.14.0-cuda12.6"),
        ("580.173.02", [V100], "2.14.0-cuda12.6"),
        ("580.173.02", [P100], "2.14.0-cuda12.6"),
        ("580.173.02", [V100, A100], "2.14.0-cuda12.6"),
        ("595.91.07", [B200], "2.14.0-cuda13.2"),
        ("595.91.07", [B300], "2.14.0-cuda13.2"),
        ("570.133.20", [B200], "2.10.0-cuda12.8"),
        ("570.133.20", [RTX5090], "2.10.0-cuda12.8"),
        ("580.173.02", [V100, RTX5090], "2.10.0-cuda12.8"),
        ("595.91.07", [NEXT], "2.14.0-cuda13.2"),
    ],
)
def test_the_newest_image_that_works(driver: str, gpus: list[str], expected: str) -> None:
    choice = resolve_image(driver, gpus)
    assert f":{expected}-" in choice.image
    assert driver.split(".")[0] in choice.reason


@pytest.mark.parametrize(
    ("driver", "gpus", "says", "remedy"),
    [
        ("550.163.01", [B200], "Blackwell", "driver_branch"),
        ("470.256.02", [A100], "needs driver 525.60.13", "newer driver"),
        ("580.173.02", [K80], "compute capability 3.7", "container.image"),
        ("580.173.02", [P100, RTX5090], "compute capability 6.0", "container.image"),
        ("575.57.08", [NEXT], "compute capability 13.0", "container.image"),
        (None, [H100], "driver is not loaded", "provision"),
        ("", [H100], "driver is not loaded", "provision"),
        ("580.173.02", [], "no NVIDIA GPU", ""),
        ("[N/A]", [H100], "not a version: '[N/A]'", ""),
        ("580.173.02", ["Hopper"], "'Hopper'", ""),
        ("580.173.02", ["9"], "not a compute capability", ""),
    ],
)
def test_refused_with_the_reason(
    driver: str | None, gpus: list[str], says: str, remedy: str
) -> None:
    with pytest.raises(BlockedError) as caught:
        resolve_image(driver, gpus)
    assert says in caught.value.message
    assert remedy in (caught.value.remedy or "")


def test_newer_images_that_were_passed_over_are_explained() -> None:
    choice = resolve_image("535.261.03", [A100])
    assert dict(choice.passed_over)["pytorch/pytorch:2.14.0-cuda13.2-cudnn9-runtime"] == (
        "CUDA 13.2 needs driver 580 or newer"
    )
    assert "PTX" in choice.notes[0]


def test_every_row_has_its_source_and_date() -> None:
    for row in load_catalogue().images:
        assert row.source
        assert row.date.startswith("20")
        assert row.toolkit_driver >= row.min_driver


def test_a_malformed_catalogue_is_refused() -> None:
    row = {
        "image": "x", "torch": "2", "cuda": "13.x", "min_driver": "580", "toolkit_driver": "580",
        "architectures": [], "source": "s", "date": "2026-11-21",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"13\.x"):
        parse_catalogue({"images": [row], "gpu_drivers": []})
    assert parse_version("580.95.05") == (580, 95, 5)
