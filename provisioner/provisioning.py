"""Provisioning many hosts: the steps in order, one transport and one transcript per host."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from inventory import Host
from provisioner.command import Secret
from provisioner.facts import ALL_FACTS, Facts, gather
from provisioner.home import transcripts_dir
from provisioner.parallel import as_rigup_error
from provisioner.runner import HostReport, Job, Progress, check_only, fan_out, provision
from provisioner.steps import ALL_STEPS
from provisioner.transcript import RecordingTransport, Transcript
from provisioner.transport.ssh import SshTransport


def provision_hosts(
    hosts: Sequence[Host],
    progress: Progress,
    *,
    only_check: bool = False,
    sudo_password: Secret | None = None,
) -> tuple[HostReport, ...]:
    """Plan (``only_check``) or provision every host, all at once; one report each, in order."""
    run = time.strftime("%Y%m%d-%H%M%S")

    def work(job: Job) -> HostReport:
        try:
            transcript = Transcript(transcripts_dir() / run / f"{job.host.name}.log")
        except OSError as error:
            return HostReport(job.host.name, error=as_rigup_error(error, job.host.name))
        recorded = replace(job, transport=RecordingTransport(job.transport, transcript))
        try:
            report = (check_only if only_check else provision)(recorded, ALL_STEPS, progress)
        finally:
            transcript.close()
        return replace(report, transcript=str(transcript.path))

    jobs = [
        Job(host, SshTransport(host, sudo_password=sudo_password), sudo_password is not None)
        for host in hosts
    ]
    return fan_out(jobs, work)


def read_facts(host: Host, *, sudo_password: Secret | None = None) -> Facts:
    """All facts of one host in one round trip."""
    transport = SshTransport(host, sudo_password=sudo_password)
    try:
        return gather(
            transport, ALL_FACTS, state_dir=host.state_dir, sudo=sudo_password is not None
        )
    finally:
        transport.close()
