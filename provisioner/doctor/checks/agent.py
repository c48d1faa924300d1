"""rigup's own part on the host: can the agent run, and will jobs outlive a logout and a boot?"""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.agent.bundle import build_bundle
from provisioner.doctor.finding import Finding
from provisioner.doctor.probes.agent_files import AGENT_FILES
from provisioner.doctor.probes.jobs import JOBS
from provisioner.doctor.situation import Situation, found
from provisioner.facts import AGENT, LOGIN, OS, PYTHON

OLDEST_PYTHON = (3, 8)


def look(situation: Situation) -> Iterator[Finding]:
    yield from _python(situation)
    yield from _damaged(situation)
    agent, login = situation.facts[AGENT], situation.facts[LOGIN]
    if not agent.builds:
        return  # nothing runs through rigup here, and the first job brings the agent along
    if build_bundle().digest not in agent.builds:
        yield found(
            "agent-old",
            "note",
            "agent",
            "the agent on the host is of another version; the next contact replaces it",
            evidence=", ".join(digest[:12] for digest in agent.builds),
            where="state directory",
            fix="nothing; it is no fault",
        )
    if situation.facts[OS].systemd and not login.lingers:
        yield found(
            "jobs-end-at-logout",
            "warning",
            "agent",
            f"jobs of {login.user} may end with the last logout, and queued ones do not start "
            "after a boot",
            evidence="no lingering",
            where="/var/lib/systemd/linger",
            fix=f"{situation.provision}; by hand, sudo loginctl enable-linger {login.user}",
        )


def look_at_jobs(situation: Situation) -> Iterator[Finding]:
    jobs = situation.facts[JOBS]
    if jobs.unwatched:
        yield found(
            "jobs-unwatched",
            "warning",
            "jobs",
            "the supervisor of a job is gone",
            evidence=", ".join(jobs.unwatched),
            where="state directory",
            fix=f"invoke jobs --host {situation.host.name}: any contact gives a job that still "
            "runs a new supervisor, and calls the others lost",
        )
    if jobs.damaged:
        yield found(
            "jobs-damaged",
            "unread",
            "jobs",
            "the state of a job cannot be read",
            evidence=", ".join(jobs.damaged),
            where="state directory",
            fix=f"look at jobs/NAME/state.json below {situation.host.state_dir} on the host",
        )


def _damaged(situation: Situation) -> Iterator[Finding]:
    damaged, owner = situation.facts[AGENT_FILES].damaged, situation.facts[AGENT_FILES].foreign
    if owner:
        user = situation.facts[LOGIN].user
        yield found(
            "state-not-users",
            "problem",
            "agent",
            f"the state directory is not {user}'s own: no job can be started or looked at",
            evidence=f"it belongs to {owner}",
            where=situation.host.state_dir,
            fix=f"sudo chown -R {user}: on it, if nobody else uses it; else set state_dir in the "
            "inventory",
        )
    if damaged:
        yield found(
            "agent-damaged",
            "problem",
            "agent",
            "an agent's file is not what its name says: it was cut short or changed",
            evidence=", ".join(name[:12] for name in damaged),
            where=f"{situation.host.state_dir}/agent",
            fix=f"{situation.provision} puts a whole one there",
        )


def _python(situation: Situation) -> Iterator[Finding]:
    version = situation.facts[PYTHON].version
    if version is None or version < OLDEST_PYTHON:
        yield found(
            "python-too-old",
            "problem",
            "agent",
            "the agent needs python3 of 3.8 or newer",
            evidence="no python3" if version is None else f"Python {version[0]}.{version[1]}",
            where="python3 --version",
            fix="install python3 with the host's package manager",
        )
