"""Jump hosts that are hosts of the inventory themselves."""

from pathlib import Path

import pytest

from inventory import InventoryError, load_inventory


def load(tmp_path: Path, text: str):
    path = tmp_path / "hosts.yaml"
    path.write_text(text)
    return load_inventory(path, ssh_config=tmp_path / "none").hosts


def test_a_jump_that_names_a_host_goes_through_it(tmp_path: Path) -> None:
    hosts = load(tmp_path, "hosts:\n  gw: {port: 2222}\n  a: {jump: gw}\n  b: {jump: x@y:22}\n")
    assert hosts["a"].via == hosts["gw"]
    assert hosts["b"].via is None


def test_several_hops(tmp_path: Path) -> None:
    hosts = load(tmp_path, "hosts:\n  a: {jump: b}\n  b: {jump: c}\n  c: {}\n")
    assert hosts["a"].via is not None
    assert hosts["a"].via.via == hosts["c"]


def test_a_default_jump_does_not_apply_to_the_jump_host_itself(tmp_path: Path) -> None:
    hosts = load(tmp_path, "defaults: {jump: gw}\nhosts:\n  gw: {}\n  a: {}\n")
    assert hosts["gw"].jump is None
    assert hosts["a"].via == hosts["gw"]


def test_a_circle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="circle: a -> b -> a"):
        load(tmp_path, "hosts:\n  a: {jump: b}\n  b: {jump: a}\n")


@pytest.mark.parametrize("word", ["none", "None", "NONE"])
def test_none_is_no_jump_whatever_the_defaults_say(tmp_path: Path, word: str) -> None:
    text = f"defaults: {{jump: gw}}\nhosts:\n  gw: {{}}\n  a: {{jump: {word}}}\n  none: {{}}\n"
    hosts = load(tmp_path, text)
    assert (hosts["a"].jump, hosts["a"].via) == ("none", None)
    assert hosts["none"].via == hosts["gw"]
