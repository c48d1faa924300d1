"""The driver from a distribution's own archive: Debian's non-free components, Ubuntu's modules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from situations import facts_of, host_of

from inventory import Host
from provisioner.actions import WriteFile
from provisioner.driver_plan import driver_parts, installed_source, plan_driver, source_of
from provisioner.errors import BlockedError
from provisioner.facts import ARCHIVE, SOURCES, Facts
from provisioner.facts.archive import AptSource, ArchiveFacts
from provisioner.facts.sources import SourceFacts
from provisioner.platforms.debian import NON_FREE_SOURCE, Debian, non_free_source

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://mirror.example/debian"
DISTRO = Host("gpu01", "gpu01", driver_source="distro")


def source(suites: str, components: str, uris: str = MIRROR, **settings: str) -> AptSource:
    return AptSource(uris, tuple(suites.split()), tuple(components.split()), settings)


def fresh(system: str = "debian12", **facts: Any) -> Facts:
    return facts_of({"from": "fresh", "system": system, "facts": facts}, DISTRO)


def test_what_is_missing_comes_from_the_hosts_own_mirrors_and_keys() -> None:
    signed = {"Signed-By": KEYRING, "Trusted": "yes"}
    text = non_free_source(
        (source("trixie trixie-updates trixie-backports", "main non-free-firmware", **signed),),
        "trixie",
    )
    assert text == (
        "# written by rigup; changes are overwritten\n"
        "Types: deb\n"
        f"URIs: {MIRROR}\n"
        "Suites: trixie trixie-updates\n"
        "Components: contrib non-free\n"
        f"Signed-By: {KEYRING}\n"
        "Trusted: yes\n"
    )


def test_what_another_source_of_the_same_suites_enables_is_not_missing() -> None:
    sources = (source("bookworm", "main"), source("bookworm", "contrib non-free non-free-firmware"))
    assert non_free_source(sources, "bookworm") == ""


@pytest.mark.parametrize(
    "foreign",
    [
        source("bookworm", "main", "https://pkgs.example/stable/debian", **{"Signed-By": "/x.gpg"}),
        source("stable", "main", "https://packages.example/apt", **{"Signed-By": "/x.gpg"}),
        source("bookworm", "stable", "https://download.docker.com/linux/debian"),
    ],
)
def test_other_vendors_sources_are_none_of_debian(foreign: AptSource) -> None:
    with pytest.raises(BlockedError, match="no source of Debian bookworm") as raised:
        non_free_source((foreign,), "bookworm")
    assert "driver_source: vendor" in str(raised.value.remedy)
    text = non_free_source((foreign, source("bookworm", "main")), "bookworm")
    assert foreign.uris not in text.replace(MIRROR, "")


def test_a_mirror_that_signs_with_its_own_key_is_known_by_its_updates() -> None:
    own = {"Signed-By": "/etc/apt/keyrings/company.gpg"}
    sources = (source("bookworm", "main", **own), source("bookworm-updates", "main", **own))
    assert non_free_source(sources, "bookworm").count("company.gpg") == 2


def test_a_password_in_a_uri_is_not_copied() -> None:
    with pytest.raises(BlockedError, match="password in its URI") as raised:
        non_free_source((source("bookworm", "main", "https://***@m.example/debian"),), "bookworm")
    assert "contrib non-free" in str(raised.value.remedy)


def test_a_source_file_that_is_in_place_is_not_written_again() -> None:
    facts = fresh()
    plan = plan_driver(facts, DISTRO)
    [write, *_] = Debian().driver_actions(plan.choice, facts, DISTRO)
    assert isinstance(write, WriteFile)
    there = SourceFacts({str(NON_FREE_SOURCE): write.content}, {})
    again = Facts({**dict(facts.items()), SOURCES.name: there})
    kinds = [type(action) for action in Debian().driver_actions(plan.choice, again, DISTRO)]
    assert WriteFile not in kinds


def test_a_host_whose_archive_is_complete_needs_no_source() -> None:
    complete = ArchiveFacts((source("bookworm", "main contrib non-free non-free-firmware"),))
    facts = Facts({**dict(fresh().items()), ARCHIVE.name: complete})
    choice = plan_driver(facts, DISTRO).choice
    assert len(Debian().driver_actions(choice, facts, DISTRO)) == 2


@pytest.mark.parametrize(
    ("system", "pci", "branch", "flavour"),
    [
        ("debian12", "h100", "535", "proprietary"),
        ("debian13", "h100", "550", "proprietary"),
        ("debian13", "gh200", "550", "open"),
        ("ubuntu2204", "h100", "580", "open"),
        ("ubuntu2604", "v100", "580", "proprietary"),
    ],
)
def test_what_an_archive_can_give(system: str, pci: str, branch: str, flavour: str) -> None:
    choice = plan_driver(fresh(system, gpu={"pci": [pci]}), DISTRO).choice
    assert (choice.branch, choice.flavour) == (branch, flavour)
    assert ("too old for CUDA 13" in choice.limits) == (int(branch) < 580)


@pytest.mark.parametrize(
    ("system", "pci", "wanted", "words"),
    [
        ("debian12", "b200", None, "535 does not drive blackwell GPUs yet"),
        ("debian13", "b200", None, "550 does not drive blackwell GPUs yet"),
        ("debian12", "gh200", None, "no usable open modules"),
        ("debian12", "h100", "580", "holds branch 535, not 580"),
        ("ubuntu2404", "h100", "595", "holds branch 580, not 595"),
    ],
)
def test_what_an_archive_cannot_give(system: str, pci: str, wanted: str | None, words: str) -> None:
    with pytest.raises(BlockedError, match=words) as raised:
        plan_driver(fresh(system, gpu={"pci": [pci]}), replace(DISTRO, driver_branch=wanted))
    assert "driver_source: vendor" in str(raised.value.remedy)


def test_ubuntus_hardware_enablement_kernel_has_modules_of_its_own_name() -> None:
    metas = ["linux-image-generic-hwe-22.04", "linux-headers-generic-hwe-22.04"]
    running = "6.8.0-48-generic"
    facts = fresh("ubuntu2204", kernel={"running": running, "metapackages": metas})
    plan = plan_driver(facts, DISTRO)
    assert plan.signed
    [_, install] = platform_actions(facts)
    assert f"linux-modules-nvidia-580-server-open-{running} " in install
    assert "linux-modules-nvidia-580-server-open-generic-hwe-22.04 " in install


def platform_actions(facts: Facts) -> list[str]:
    from provisioner.platforms.ubuntu import Ubuntu

    actions = Ubuntu().driver_actions(plan_driver(facts, DISTRO).choice, facts, DISTRO)
    return [action.describe() for action in actions]


def test_where_the_driver_comes_from_when_nobody_says() -> None:
    def chosen(system: str, installed: dict[str, str] | None = None, **kernel: object) -> str:
        facts = fresh(system, kernel=kernel, packages={"versions": installed or {}})
        return source_of(facts, host_of({}))

    assert chosen("debian12") == "vendor"
    assert chosen("debian12", secure_boot=True) == "vendor"
    assert chosen("ubuntu2404") == "vendor"
    assert chosen("ubuntu2404", secure_boot=True) == "distro"
    assert chosen("ubuntu2404", secure_boot=True, mok_enrolled=True) == "vendor"
    assert chosen("ubuntu2404", {"nvidia-utils-580-server": "1"}) == "distro"
    assert chosen("debian12", {"nvidia-alternative": "1"}) == "distro"
    assert chosen("debian12", {"nvidia-alternative": "1", "nvidia-open": "1"}) == "vendor"


def test_parts_of_a_driver_and_their_lookalikes() -> None:
    names = [
        *(
            "nvidia-open",
            "libnvidia-ml1",
            "libcuda1",
            "firmware-nvidia-gsp",
            "nvidia-fabricmanager",
        ),
        *("nvidia-container-toolkit", "libnvidia-container1", "nvidia-cuda-toolkit"),
        *("nvidia-driver-pinning-580", "docker.io"),
    ]
    assert driver_parts(names) == (
        *("firmware-nvidia-gsp", "libcuda1", "libnvidia-ml1"),
        *("nvidia-fabricmanager", "nvidia-open"),
    )
    assert installed_source({"nvidia-container-toolkit": "1", "docker.io": "1"}) is None
    assert installed_source({"nvidia-driver-580-open": "580.159.03-0ubuntu0.24.04.1"}) == "distro"
    assert installed_source({"nvidia-driver-580-open": "580.159.03-0ubuntu1"}) is None
    assert installed_source({"cuda-drivers-570": "570.195.03-0ubuntu1"}) == "vendor"
    assert installed_source({"nvidia-open-570": "570.195.03-0ubuntu1"}) == "vendor"
    assert installed_source({"nvidia-open-kernel-dkms": "550.163.01-2"}) == "distro"
