"""Editing known_hosts: only the lab's own lines change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.lab.known_hosts import pin, unpin

OTHERS = "# mine\ngpu01 ssh-ed25519 AAAAother\n[127.0.0.1]:220 ssh-ed25519 AAAAprefix\n"


def test_keys_are_pinned_in_openssh_form_without_comment() -> None:
    text = pin("", {2201: ["ssh-ed25519 AAAA root@lab01"]})
    assert text == "[127.0.0.1]:2201 ssh-ed25519 AAAA\n"


def test_stale_lines_for_the_port_are_replaced_and_others_kept() -> None:
    before = OTHERS + "[127.0.0.1]:2201 ssh-rsa AAAAold\n"
    after = pin(before, {2201: ["ssh-ed25519 AAAAnew"]})
    assert after == OTHERS + "[127.0.0.1]:2201 ssh-ed25519 AAAAnew\n"


def test_marked_and_shared_lines_of_the_port_go_too() -> None:
    text = "@revoked [127.0.0.1]:2201 ssh-rsa A\nlab01,[127.0.0.1]:2201 ssh-rsa B\n"
    assert unpin(OTHERS + text, [2201]) == OTHERS


def test_pinning_twice_changes_nothing() -> None:
    keys = {2201: ["ssh-ed25519 A", "ssh-rsa B"], 2202: ["ssh-ed25519 C"]}
    once = pin(OTHERS, keys)
    assert pin(once, keys) == once
    assert unpin(once, keys) == OTHERS


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=30)))
def test_foreign_lines_survive_whatever_they_are(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines if "[127.0.0.1]:9" not in line)
    assert unpin(text, [9]) == text
