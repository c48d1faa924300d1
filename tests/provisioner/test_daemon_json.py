"""Merging into daemon.json: nothing of the admin's is lost, all of it can be taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.daemon_json import KeyConflict, Merge, Wish, merge, value_at

ROTATE = Wish(("log-opts", "max-size"), "100m")
CGROUPFS = Wish(("exec-opts",), ["native.cgroupdriver=cgroupfs"])

NAMES = st.sampled_from(["log-opts", "runtimes", "exec-opts", "max-size", "nvidia", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)
WISHES = st.lists(
    st.builds(
        Wish,
        st.lists(NAMES, min_size=1, max_size=3).map(tuple),
        st.booleans() | st.lists(st.text(max_size=3), min_size=1, max_size=2),
    ),
    max_size=4,
)


def test_missing_keys_are_added_and_all_others_stay() -> None:
    present = {"labels": ["a"], "log-opts": {"tag": "x"}, "debug": True}
    merged = merge(present, [Wish(("live-restore",), True), ROTATE])
    assert merged.content == {
        "labels": ["a"],
        "log-opts": {"tag": "x", "max-size": "100m"},
        "debug": True,
        "live-restore": True,
    }
    assert list(merged.content)[:3] == list(present), "in their own order"
    assert present == {"labels": ["a"], "log-opts": {"tag": "x"}, "debug": True}


def test_a_value_that_is_there_is_the_admins_choice() -> None:
    merged = merge({"live-restore": False}, [Wish(("live-restore",), True)])
    assert merged.content == {"live-restore": False}
    assert merged.added == ()


@pytest.mark.parametrize("nothing", [{}, {"exec-opts": None}])
def test_a_list_is_made_where_there_is_none(nothing: dict[str, Any]) -> None:
    assert merge(nothing, [CGROUPFS]).content == {"exec-opts": CGROUPFS.value}


def test_a_list_is_continued() -> None:
    present = {"exec-opts": ["native.umask=normal"]}
    merged = merge(present, [CGROUPFS])
    assert merged.content["exec-opts"] == ["native.umask=normal", "native.cgroupdriver=cgroupfs"]
    assert merge(merged.content, [CGROUPFS]).added == ()


@pytest.mark.parametrize(
    ("present", "key"),
    [({"log-opts": "none"}, "log-opts"), ({"log-opts": ["a"]}, "log-opts")],
)
def test_what_cannot_hold_a_key_is_named(present: dict[str, Any], key: str) -> None:
    with pytest.raises(KeyConflict, match=key) as raised:
        merge(present, [ROTATE])
    assert raised.value.key == key


def test_a_list_cannot_be_continued_in_something_else() -> None:
    with pytest.raises(KeyConflict, match='exec-opts is "native"'):
        merge({"exec-opts": "native"}, [CGROUPFS])


def test_the_text_is_what_docker_reads() -> None:
    merged = merge({"labels": ["größe"]}, [ROTATE])
    assert json.loads(merged.text) == merged.content
    assert "größe" in merged.text
    assert merged.text.endswith("}\n")


def test_the_trace_says_what_to_take_back_and_what_was_there() -> None:
    merged = merge({"exec-opts": ["a"]}, [ROTATE, CGROUPFS])
    assert json.loads(merged.trace) == [
        {"path": ["log-opts", "max-size"], "value": "100m"},
        {"path": ["exec-opts"], "value": CGROUPFS.value, "previous": ["a"]},
    ]


def granted(merged: Merge, wish: Wish) -> bool:
    found = value_at(merged.content, wish.path)
    if isinstance(wish.value, list) and isinstance(found, list):
        return all(item in found for item in wish.value)
    return found is not None


def keeps(before: Any, after: Any) -> bool:
    """Is everything of ``before`` still there?"""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(
            value is None or keeps(value, after.get(key)) for key, value in before.items()
        )
    if isinstance(before, list):
        return isinstance(after, list) and after[: len(before)] == before
    return bool(before == after)


@given(OBJECTS, WISHES)
def test_nothing_is_lost_and_a_second_merge_adds_nothing(
    present: dict[str, Any], wishes: list[Wish]
) -> None:
    before = json.dumps(present)
    try:
        merged = merge(present, wishes)
    except KeyConflict:
        return
    assert json.dumps(present) == before
    assert keeps(present, merged.content)
    assert all(granted(merged, wish) for wish in wishes)
    assert merge(merged.content, wishes).added == ()
