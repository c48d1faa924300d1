"""Which systems practice hosts get."""

from __future__ import annotations

import pytest

from provisioner.errors import ExitCode, UsageError
from provisioner.lab.distros import find_distro, spread


def names(wanted: list[str], count: int) -> list[str]:
    return [distro.name for distro in spread(wanted, count)]


def test_several_distros_alternate_over_the_hosts() -> None:
    assert names(["debian12,debian13"], 3) == ["debian12", "debian13", "debian12"]
    assert names(["debian13", "debian12"], 2) == ["debian13", "debian12"]


def test_without_a_wish_hosts_are_debian_12() -> None:
    assert names([], 2) == ["debian12", "debian12"]


@pytest.mark.parametrize("wrong", ["ubuntu2404", "", "debian12,,debian13", "Debian12"])
def test_an_unknown_distro_is_a_usage_error_that_names_the_known_ones(wrong: str) -> None:
    with pytest.raises(UsageError) as caught:
        spread([wrong], 2)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "debian12, debian13" in str(caught.value)


def test_every_distro_knows_its_archive_suite() -> None:
    assert find_distro("debian12").codename == "bookworm"
    assert find_distro("debian13").codename == "trixie"
