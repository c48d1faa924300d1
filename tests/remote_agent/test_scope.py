"""When and how to leave the login session."""

from __future__ import annotations

import os

import pytest

from remote_agent import scope


class Systemd:
    """``kills``: logind's KillUserProcesses; ``fails``: programs that end with an error."""

    def __init__(self, kills=True, fails=()):
        self.kills, self.fails, self.calls = kills, fails, []

    def output(self, *words):
        self.calls.append(words[0])
        if words[0] == "busctl":
            return 0, "b true\n" if self.kills else "b false\n"
        return (1 if words[0] in self.fails else 0), ""


@pytest.fixture
def choose(monkeypatch):
    def make(systemd, *, uid=1000, lingers=False, session=True):
        monkeypatch.setattr(scope, "_prefix", None)
        monkeypatch.setattr(scope, "_output", systemd.output)
        monkeypatch.setattr(scope, "_lingers", lambda: lingers)
        monkeypatch.setattr(scope, "_in_session", lambda: session)
        monkeypatch.setattr(os.path, "isdir", lambda path: True)
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        return list(scope.scope_prefix())

    return make


def test_root_uses_the_systems_manager(choose):
    assert choose(Systemd(), uid=0) == ["systemd-run", "--scope", "--quiet", "--collect"]


def test_a_user_who_lingers_uses_their_own(choose):
    assert choose(Systemd(), lingers=True)[:3] == ["systemd-run", "--user", "--scope"]


def test_lingering_is_asked_for_and_may_be_refused(choose):
    assert choose(Systemd())[:2] == ["systemd-run", "--user"]
    assert choose(Systemd(fails=("loginctl",))) == []


def test_a_manager_that_does_not_answer_is_not_used(choose):
    assert choose(Systemd(fails=("systemd-run",)), lingers=True) == []


def test_plain_detaching_where_sessions_are_not_killed(choose):
    assert choose(Systemd(kills=False)) == []
    outside = Systemd()
    assert choose(outside, session=False) == []
    assert outside.calls == []


def test_the_answer_is_remembered(choose):
    systemd = Systemd()
    choose(systemd, lingers=True)
    before = len(systemd.calls)
    scope.scope_prefix()
    assert len(systemd.calls) == before
