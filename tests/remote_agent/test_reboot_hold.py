"""A hold on new jobs is root's, and does not outlast whoever set it for long."""

from __future__ import annotations

import os
import time

import pytest

from remote_agent.reboot_hold import LASTS_S, reboot_is_due

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose file it must be")


@pytest.fixture
def hold(tmp_path):
    path = tmp_path / "reboot-hold"
    path.write_text("ann")
    return path


def test_a_fresh_hold_counts_and_none_does_not(hold):
    assert reboot_is_due(str(hold))
    assert not reboot_is_due(str(hold) + "-missing")


def test_an_old_hold_counts_no_more(hold):
    assert not reboot_is_due(str(hold), now=time.time() + LASTS_S + 1)


def test_another_users_file_holds_nobody(hold):
    os.chown(str(hold), 12001, -1)
    assert not reboot_is_due(str(hold))


def test_what_is_no_file_holds_nobody(tmp_path, hold):
    os.symlink(str(hold), str(tmp_path / "link"))
    os.mkdir(str(tmp_path / "directory"))
    assert not reboot_is_due(str(tmp_path / "link"))
    assert not reboot_is_due(str(tmp_path / "directory"))
