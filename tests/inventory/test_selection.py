"""--host, --group and --all."""

from __future__ import annotations

from typing import Any

import pytest

from inventory import Group, Host, Inventory, InventoryError

HOSTS = {name: Host(name, f"{name}.example") for name in ("gpu01", "gpu02", "cpu01")}
GROUPS = {"lab": Group("lab", ("gpu02", "gpu01")), "void": Group("void", ())}
INVENTORY = Inventory(HOSTS, GROUPS, ssh_names=frozenset({"laptop", "gpu01"}))


def chosen(inventory: Inventory = INVENTORY, **choice: Any) -> list[str]:
    return [host.name for host in inventory.select(**choice)]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"hosts": "gpu02"}, ["gpu02"]),
        ({"hosts": "cpu01,gpu01"}, ["gpu01", "cpu01"]),
        ({"hosts": " gpu02 , gpu02,gpu02"}, ["gpu02"]),
        ({"hosts": "laptop,gpu01"}, ["gpu01", "laptop"]),
        ({"group": "lab"}, ["gpu01", "gpu02"]),
        ({"everything": True}, ["gpu01", "gpu02", "cpu01"]),
    ],
)
def test_choice(choice: dict[str, Any], names: list[str]) -> None:
    assert chosen(**choice) == names


def test_a_name_of_the_ssh_configuration_is_a_host_as_ssh_knows_it() -> None:
    (host,) = INVENTORY.select(hosts="laptop")
    assert host == Host("laptop", "laptop", from_ssh_config=True)


def test_the_inventory_comes_before_the_ssh_configuration() -> None:
    (host,) = INVENTORY.select(hosts="gpu01")
    assert (host.address, host.from_ssh_config) == ("gpu01.example", False)


def test_the_only_host_need_not_be_named() -> None:
    assert chosen(Inventory({"gpu01": HOSTS["gpu01"]}, {})) == ["gpu01"]


@pytest.mark.parametrize(
    ("choice", "fragments"),
    [
        ({}, ["which host?", "--host NAME", "gpu01, gpu02, cpu01"]),
        ({"hosts": "gpu01", "group": "lab"}, ["exclude each other"]),
        ({"hosts": "gpu01", "everything": True}, ["exclude each other"]),
        ({"hosts": "gpu1"}, ["'gpu1'", "did you mean gpu01"]),
        ({"hosts": "laptpo"}, ["did you mean laptop"]),
        ({"hosts": "gpu01,zebra"}, ["'zebra'", "add it to", "known hosts: gpu01"]),
        ({"hosts": "lab"}, ["lab is a group: --group lab"]),
        ({"hosts": ""}, ["empty name"]),
        ({"hosts": "gpu01,"}, ["empty name"]),
        ({"hosts": "--all"}, ["no host named '--all'"]),
        ({"group": "lba"}, ["no group named 'lba'", "did you mean lab"]),
        ({"group": "zebra"}, ["known groups: lab, void"]),
        ({"group": "void"}, ["'void' has no hosts", "groups.void.hosts"]),
    ],
)
def test_refusal(choice: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(InventoryError) as caught:
        chosen(**choice)
    assert caught.value.remedy
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("choice", [{}, {"everything": True}])
def test_nothing_to_choose_from(choice: dict[str, Any]) -> None:
    with pytest.raises(InventoryError, match="there is no inventory file"):
        chosen(Inventory({}, {}), **choice)


def test_long_lists_of_names_are_cut() -> None:
    many = {f"h{i}": Host(f"h{i}", "x") for i in range(500)}
    with pytest.raises(InventoryError, match="and 488 more"):
        chosen(Inventory(many, {}))
