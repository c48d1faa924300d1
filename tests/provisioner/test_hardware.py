"""Tables of the field: consistent, sourced, dated; and which driver they choose."""

from __future__ import annotations

import re
from importlib import resources
from itertools import pairwise
from typing import Any

import pytest
from situations import facts_of

from inventory import Host
from provisioner import data
from provisioner.errors import BlockedError
from provisioner.facts import GPU
from provisioner.facts.gpu import GpuFacts, PciGpu
from provisioner.hardware import choose_driver, generation, unanswering

TABLE = data.load("drivers")

KNOWN = {
    "0x13c2": "maxwell",  # GeForce GTX 970
    "0x17fd": "maxwell",  # Tesla M40
    "0x15f8": "pascal",  # Tesla P100
    "0x1b06": "pascal",  # GeForce GTX 1080 Ti
    "0x1b38": "pascal",  # Tesla P40
    "0x1db1": "volta",  # Tesla V100 SXM2 16 GB
    "0x1db6": "volta",  # Tesla V100 PCIe 32 GB
    "0x1eb8": "turing",  # Tesla T4
    "0x1e04": "turing",  # GeForce RTX 2080 Ti
    "0x2182": "turing",  # GeForce GTX 1660 Ti
    "0x20b0": "ampere",  # A100 SXM4 40 GB
    "0x20b5": "ampere",  # A100 PCIe 80 GB
    "0x2204": "ampere",  # GeForce RTX 3090
    "0x2236": "ampere",  # A10
    "0x2235": "ampere",  # A40
    "0x2684": "ada",  # GeForce RTX 4090
    "0x26b9": "ada",  # L40S
    "0x27b8": "ada",  # L4
    "0x2330": "hopper",  # H100 SXM5 80 GB
    "0x2331": "hopper",  # H100 PCIe
    "0x2335": "hopper",  # H200 SXM
    "0x2342": "grace-hopper",  # GH200
    "0x2901": "blackwell",  # B200
    "0x2941": "blackwell",  # GB200
    "0x2b85": "blackwell",  # GeForce RTX 5090
}


@pytest.mark.parametrize(("device", "expected"), KNOWN.items())
def test_generations_of_known_gpus(device: str, expected: str) -> None:
    assert generation(device) == expected


@pytest.mark.parametrize("device", ["0x102d", "0x0000", "0x133f", "0xffff", "0x1a00"])
def test_gpus_in_no_table(device: str) -> None:
    assert generation(device) is None


def test_ranges_are_ordered_and_do_not_overlap() -> None:
    ranges = [(int(row["from"], 16), int(row["to"], 16)) for row in TABLE["generations"]]
    assert all(first <= last for first, last in ranges)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_every_generation_has_a_flavour_and_no_flavour_is_left_over() -> None:
    assert {row["name"] for row in TABLE["generations"]} == set(TABLE["flavours"])
    assert set(TABLE["flavours"].values()) == {"open", "proprietary"}


def test_the_last_branch_for_old_gpus_and_their_flavour_agree() -> None:
    proprietary = {name for name, kind in TABLE["flavours"].items() if kind == "proprietary"}
    assert set(TABLE["branches"]["580"]["last_for"]) == proprietary
    assert set(TABLE["open_required"]) == set(TABLE["first_branch"])
    assert set(TABLE["open_required"]).isdisjoint(proprietary)


def test_the_default_branch_is_one_of_the_table() -> None:
    assert TABLE["default_branch"] in TABLE["branches"]


def gpus(*devices: str) -> list[PciGpu]:
    return [PciGpu(f"0000:{i:02x}:00.0", device, None) for i, device in enumerate(devices)]


@pytest.mark.parametrize(("device", "name"), KNOWN.items())
def test_the_choice_follows_the_table(device: str, name: str) -> None:
    choice = choose_driver(gpus(device), None)
    assert choice.flavour == TABLE["flavours"][name]
    assert choice.branch == TABLE["default_branch"]
    assert device in choice.why
    assert name in choice.why


@pytest.mark.parametrize("name", ["maxwell", "pascal", "volta"])
def test_old_gpus_are_refused_above_their_last_branch(name: str) -> None:
    device = next(key for key, value in KNOWN.items() if value == name)
    assert choose_driver(gpus(device), "535").flavour == "proprietary"
    for branch in ("581", "595", "610"):
        with pytest.raises(BlockedError, match=f"no longer drives {name}"):
            choose_driver(gpus(device), branch)


def test_one_old_gpu_decides_for_all() -> None:
    assert choose_driver(gpus("0x2330", "0x1db1"), None).flavour == "proprietary"


@pytest.mark.parametrize(
    ("devices", "branch", "words"),
    [
        (("0x1db1", "0x2901"), None, "no driver drives volta"),
        (("0x2901",), "535", "does not drive blackwell GPUs yet"),
        (("0x102d", "0x11b4"), None, "0x102d, 0x11b4 is older than Maxwell"),
    ],
)
def test_what_no_driver_can_do_is_refused_with_a_remedy(
    devices: tuple[str, ...], branch: str | None, words: str
) -> None:
    with pytest.raises(BlockedError, match=words) as raised:
        choose_driver(gpus(*devices), branch)
    assert raised.value.remedy


def test_every_data_file_names_its_source_and_the_day_it_was_checked() -> None:
    files = [file for file in resources.files(data).iterdir() if file.name.endswith(".yaml")]
    assert len(files) >= 2
    for file in files:
        text = file.read_text("utf-8")
        assert re.search(r"^# .*checked: 20\d\d-\d\d-\d\d", text, re.MULTILINE), file.name
        assert re.search(r"source: \S", text), file.name


def test_every_repository_has_a_source_and_a_pinned_key() -> None:
    rows = [row for families in data.load("repositories").values() for row in families.values()]
    assert rows
    for row in rows:
        assert row["source"]
        variants = [row, *({**row, **one} for one in row.get("per_platform", {}).values())]
        for each in variants:
            pinned = each["key_fingerprint"]
            unknown = pinned is None and (each.get("mark") == "U" or each is row)
            assert unknown or re.fullmatch(r"[0-9A-F]{40}", pinned), each
        assert all(each["key_url"].startswith("https://") for each in variants)


def driven(pci: list[str], gpus: list[str], **changed: Any) -> GpuFacts:
    return facts_of(
        {"from": "converged", "facts": {"gpu": {"pci": pci, "gpus": gpus, **changed}}},
        Host("gpu01", "gpu01"),
    )[GPU]


@pytest.mark.parametrize(
    ("pci", "gpus", "missing"),
    [
        (["h100"], ["h100"], []),
        (["h100", "lost"], ["h100"], ["0000:2a:00.0"]),
        (["h100", "lost, unbound"], ["h100"], ["0000:2a:00.0"]),
        (["h100", "v100"], ["h100"], ["0000:3b:00.0"]),
        (["h100", "future"], ["h100"], ["0000:06:00.0"]),
        (["h100", "excluded"], ["h100"], []),
        (["h100", "passed-through"], ["h100"], []),
        (["h100", "display"], ["h100"], []),
        (["h100", "k80"], ["h100"], []),
        (["h100", "lost"], ["h100 without address"], ["0000:18:00.0", "0000:2a:00.0"]),
        (["h100"], ["h100 without address"], []),
        (["h100", "lost"], [], ["0000:18:00.0", "0000:2a:00.0"]),
        ([], ["h100"], []),
    ],
)
def test_gpus_that_the_driver_should_list_and_does_not(
    pci: list[str], gpus: list[str], missing: list[str]
) -> None:
    assert [one.address for one in unanswering(driven(pci, gpus))] == missing


def test_nothing_is_missed_before_the_driver_is_loaded() -> None:
    assert unanswering(driven(["h100"], [], module_version=None)) == ()


@pytest.mark.parametrize("branch", ["999", "585", "100", "681"])
def test_a_branch_that_was_never_released_is_refused_before_anything_is_installed(
    branch: str,
) -> None:
    with pytest.raises(BlockedError, match=f"no driver branch {branch}") as raised:
        choose_driver([PciGpu("0000:01:00.0", "0x2330", None)], branch)
    assert "driver_branch" in str(raised.value.remedy)


@pytest.mark.parametrize("branch", ["580", "620", "630", "680"])
def test_a_branch_that_came_out_after_the_table_is_not_refused(branch: str) -> None:
    assert choose_driver([PciGpu("0000:01:00.0", "0x2330", None)], branch).branch == branch
