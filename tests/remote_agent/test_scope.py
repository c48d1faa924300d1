"""When and how to leave the login session."""

from __future__ import annotations

import os
import re

import pytest

from remote_agent import scope

UNIT = re.compile(r"--unit=rigup-job-job-1-[0-9a-f]{8}\.scope")


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
def host(monkeypatch):
    def make(systemd, *, uid=1000, lingers=False, session=True, running=True):
        monkeypatch.setattr(scope, "_killed", None)
        monkeypatch.setattr(scope, "_output", systemd.output)
        monkeypatch.setattr(scope, "_lingers", lambda: lingers)
        monkeypatch.setattr(scope, "_in_session", lambda: session)
        monkeypatch.setattr(os.path, "isdir", lambda path: running)
        monkeypatch.setattr(os, "geteuid", lambda: uid)

    return make


def test_root_uses_the_systems_manager(host):
    host(Systemd(), uid=0)
    assert scope.session_escape() == ["systemd-run", "--scope", "--quiet", "--collect"]


def test_a_user_who_lingers_uses_their_own(host):
    host(Systemd(), lingers=True)
    assert scope.session_escape()[:3] == ["systemd-run", "--user", "--scope"]


def test_lingering_is_asked_for_and_may_be_refused(host):
    host(Systemd())
    assert scope.session_escape()[:2] == ["systemd-run", "--user"]
    host(Systemd(fails=("loginctl",)))
    assert scope.session_escape() == []
    assert scope.job_scope("job-1") == []


def test_plain_detaching_where_sessions_are_not_killed(host):
    host(Systemd(kills=False))
    assert scope.session_escape() == []
    outside = Systemd()
    host(outside, session=False)
    assert scope.session_escape() == []
    assert outside.calls == []


def test_the_answer_is_remembered(host):
    systemd = Systemd()
    host(systemd, lingers=True)
    scope.session_escape()
    before = len(systemd.calls)
    scope.session_escape()
    assert len(systemd.calls) == before


def test_a_supervisor_gets_a_delegated_scope_of_its_own_in_any_case(host):
    host(Systemd(kills=False), lingers=True, session=False)
    words = scope.job_scope("job-1")
    assert words[:3] == ["systemd-run", "--user", "--scope"]
    assert "--property=Delegate=yes" in words
    assert "--description=rigup job job-1" in words
    assert UNIT.match(words[-1])
    assert scope.job_scope("job-1") != words, "no two scopes bear one name"


def test_a_manager_that_ends_with_the_login_holds_no_job(host):
    """Without lingering, systemd stops the user's manager and all its scopes at the logout."""
    host(Systemd(kills=False))
    assert scope.job_scope("job-1") == []


def test_nothing_without_systemd(host):
    systemd = Systemd()
    host(systemd, uid=0, running=False)
    assert scope.job_scope("job-1") == []
    assert scope.session_escape() == []
    assert systemd.calls == []
