"""Provisioning many hosts: the steps in order, one transport and one transcript per host."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from inventory import Host
from provisioner.agent.bundle import build_bundle
from provisioner.command import Secret
from provisioner.facts import ALL_FACTS, Facts, gather
from provisioner.fleet import Pace, over_hosts
from provisioner.home import transcripts_dir
from provisioner.host_job import Job
from provisioner.interrupt import Stop, stopping_on_signals
from provisioner.parallel import ahead, as_rigup_error
from provisioner.plan import choose
from provisioner.reboot import RebootPolicy
from provisioner.report import HostReport, Progress
from provisioner.runner import check_only, provision
from provisioner.steps import ALL_STEPS
from provisioner.steps.directories import wanted_directories
from provisioner.transcript import RecordingTransport, Transcript
from provisioner.transport.outliving import OutlivingTransport
from provisioner.transport.ssh import SshTransport


@dataclass(frozen=True)
class Wishes:
    """How to provision. ``only`` and ``skip`` are names of steps; ``verify_anew``: prove again
    what an earlier run has proven."""

    only_check: bool = False
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    verify_anew: bool = False
    pace: Pace = field(default_factory=Pace)
    reboots: RebootPolicy = field(default_factory=RebootPolicy)
    sudo_password: Secret | None = None


def provision_hosts(
    hosts: Sequence[Host],
    progress: Progress,
    wishes: Wishes | None = None,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[HostReport, ...]:
    """Plan or provision every host, all at once; one report each, in order.

    SIGINT and SIGTERM stop it cleanly; ``tell`` then gets a line for the user. Raises UsageError
    for a step that does not exist.
    """
    wishes = wishes or Wishes()
    steps, left_out = choose(ALL_STEPS, only=wishes.only, skip=wishes.skip)
    work = check_only if wishes.only_check else provision
    ahead(build_bundle)

    def one_host(job: Job) -> HostReport:
        chosen = replace(
            job,
            reboots=wishes.reboots,
            verify_anew=wishes.verify_anew,
            left_out=left_out,
        )
        return work(chosen, steps, progress)

    return on_hosts(hosts, one_host, wishes.pace, wishes.sudo_password, tell)


def on_hosts(
    hosts: Sequence[Host],
    work: Callable[[Job], HostReport],
    pace: Pace,
    sudo_password: Secret | None,
    tell: Callable[[str], None],
) -> tuple[HostReport, ...]:
    """``work`` for every host, with a transport and a transcript each, until a signal stops it."""
    run = time.strftime("%Y%m%d-%H%M%S")
    stop = Stop()
    jobs = [
        Job(
            host,
            OutlivingTransport(SshTransport(host, sudo_password=sudo_password)),
            sudo=sudo_password is not None,
        )
        for host in hosts
    ]
    with stopping_on_signals(stop, tell):
        return over_hosts(jobs, lambda job: _recorded(job, run, work), pace, stop)


def _recorded(job: Job, run: str, work: Callable[[Job], HostReport]) -> HostReport:
    """With a transcript of everything that is done on the host."""
    try:
        transcript = Transcript(transcripts_dir() / run / f"{job.host.name}.log")
    except OSError as error:
        return HostReport(job.host.name, error=as_rigup_error(error, job.host.name))
    job.standing.note(transcript=str(transcript.path))
    try:
        return work(replace(job, transport=RecordingTransport(job.transport, transcript)))
    finally:
        transcript.close()


def read_facts(host: Host, *, sudo_password: Secret | None = None) -> Facts:
    """All facts of one host in one round trip."""
    transport = SshTransport(host, sudo_password=sudo_password)
    try:
        return gather(
            transport,
            ALL_FACTS,
            state_dir=host.state_dir,
            directories=wanted_directories(host),
            sudo=sudo_password is not None,
        )
    finally:
        transport.close()
