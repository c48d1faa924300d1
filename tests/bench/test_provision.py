"""What the provisioning benchmark counts as "nothing to do", and how it sums up."""

from __future__ import annotations

import json

import pytest

from bench.provision import contenders, stats
from bench.provision.replay import nonce_of
from provisioner.facts import OS
from provisioner.facts.base import compose
from provisioner.transport.sudo import SudoDialogue

PYINFRA = """
--> Results:
    Operation          Hosts   Success   Error   No Change
    docker.service     4       {a}         -       {b}
    Grand total        64      {a}         -       {b}
"""
ANSIBLE = """
PLAY RECAP *********************
lab01    : ok=9    changed=0    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0
lab02    : ok=9    changed={changed}    unreachable={lost}    failed={failed}    skipped=0
"""


def report(*statuses: str) -> str:
    return json.dumps([{"host": "a", "steps": [{"status": status} for status in statuses]}])


def test_rigup_has_nothing_to_do_when_every_step_of_every_host_is_as_wanted() -> None:
    assert contenders.rigup_is_unchanged(report("ok", "ok"), "")
    assert not contenders.rigup_is_unchanged(report("ok", "changed"), "")
    assert not contenders.rigup_is_unchanged("[]", "")


def test_pyinfra_has_nothing_to_do_when_all_operations_are_without_change() -> None:
    assert contenders.pyinfra_is_unchanged("", PYINFRA.format(a="-", b="64"))
    assert not contenders.pyinfra_is_unchanged("", PYINFRA.format(a="1", b="63"))
    assert not contenders.pyinfra_is_unchanged("", "--> pyinfra error: No hosts")


@pytest.mark.parametrize(
    ("counts", "unchanged"), [((0, 0, 0), True), ((1, 0, 0), False), ((0, 1, 0), False)]
)
def test_ansible_has_nothing_to_do_when_no_host_changed_or_failed(
    counts: tuple[int, int, int], unchanged: bool
) -> None:
    changed, lost, failed = counts
    text = ANSIBLE.format(changed=changed, lost=lost, failed=failed)
    assert contenders.ansible_is_unchanged(text, "") is unchanged
    assert not contenders.ansible_is_unchanged("skipping: no hosts matched", "")


def test_another_contender_begins_every_round() -> None:
    rounds = [stats.rotated(["a", "b", "c"], number) for number in range(4)]
    assert [names[0] for names in rounds] == ["a", "b", "c", "a"]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)


def test_the_table_shows_medians_and_the_subjects_share() -> None:
    shown = stats.comparison({"ours": [1.0, 9.0, 2.0], "theirs": [8.0, 7.0, 9.0]}, "ours")
    assert [line.split() for line in shown.splitlines()[2:]] == [
        ["|", "ours", "|", "2.00", "|", "1.00", "|", "9.00", "|", "1.000", "|"],
        ["|", "theirs", "|", "8.00", "|", "7.00", "|", "9.00", "|", "0.250", "|"],
    ]


def test_a_replayed_answer_carries_the_nonce_of_the_question() -> None:
    nonce = "00112233445566aa"
    assert nonce_of(compose([OS], nonce)) == nonce
    sudo = SudoDialogue(None, lambda data: None, nonce=nonce)
    assert nonce_of(f"sh -c '... {sudo.prompt_argument} ...'") == nonce
    assert nonce_of("sha256sum a1e75ae401b545c3.asc") == "\0"
