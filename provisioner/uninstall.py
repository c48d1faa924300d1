"""``uninstall``: what rigup recorded that it put on a host, and nothing else, is taken back.

Step by step in reverse order: look at what is recorded and still there, remove it, look again.
Every removal is harmless when repeated, and the journal is rewritten only at the end, so a run
that was killed is finished by the next one. Data is never touched: jobs, logs, outputs, code
snapshots, images, volumes and /var/lib/docker stay, and the report says where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from inventory import Host
from provisioner import journal
from provisioner.actions import run_checked
from provisioner.command import Command, Secret
from provisioner.errors import BlockedError, StepFailed, UsageError
from provisioner.facts import DOCKER, LOGIN, OS, PACKAGES, Facts, gather
from provisioner.facts.occupants import OCCUPANTS
from provisioner.fleet import Pace
from provisioner.host_job import Job, reported
from provisioner.host_lock import HostLock
from provisioner.journal import Entry
from provisioner.platforms import Platform, platform_of
from provisioner.provisioning import on_hosts
from provisioner.report import HostReport, Progress, StepReport
from provisioner.steps import ALL_STEPS
from provisioner.transport.upload import put_command
from provisioner.undo.permitted import refusal
from provisioner.undo.removal import Removal, plan
from provisioner.undo.survey import look

JOURNAL_BYTES = 16 << 20

READ = 'if [ -e "$1" ]; then cat -- "$1"; fi'
REMAINS = r"""
case $1 in /*) state=$1 ;; *) state=$2/${1#"~/"} ;; esac
for path in "$state"/jobs "$state"/blobs "$state"/manifests /var/lib/docker /var/lib/containerd; do
  if [ -d "$path" ] && [ -n "$(ls -A "$path" 2>/dev/null)" ]; then printf '%s\n' "$path"; fi
done
"""
STATE_DIRECTORY = str(journal.FILE.parent)
"""Wholly rigup's: journal, proofs, pending reboot."""

Agree = Callable[[str, str], bool]
"""Asked with the host's name and what will be removed, a line each."""


@dataclass(frozen=True)
class Removing:
    """``keep``: steps whose traces stay, and stay recorded. ``agree`` None: nobody is asked."""

    only_check: bool = False
    keep: Sequence[str] = ()
    agree: Agree | None = None


def uninstall_hosts(
    hosts: Sequence[Host],
    progress: Progress,
    wishes: Removing,
    *,
    sudo_password: Secret | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[HostReport, ...]:
    """One report per host, in order. Raises UsageError for a step to keep that does not exist."""
    known = [step.name for step in ALL_STEPS]
    unknown = [name for name in wishes.keep if name not in known]
    if unknown:
        raise UsageError(
            f"--keep {','.join(unknown)}: no such step", remedy=f"steps: {', '.join(known)}"
        )
    return on_hosts(
        hosts, lambda job: uninstall(job, wishes, progress), Pace(), sudo_password, tell
    )


def uninstall(job: Job, wishes: Removing, progress: Progress) -> HostReport:
    """One host; errors end in the report."""
    return reported(job, progress, _Uninstall(job, wishes, progress).run)


class _Uninstall:
    def __init__(self, job: Job, wishes: Removing, progress: Progress) -> None:
        self._job = job
        self._wishes = wishes
        self._progress = progress
        self._stays: list[str] = []
        self._lock = HostLock(job.transport)

    def run(self) -> None:
        self._tell("journal", "reading")
        facts = gather(
            self._job.transport,
            (OS, LOGIN, PACKAGES, DOCKER, OCCUPANTS),
            state_dir=self._job.host.state_dir,
            sudo=self._job.sudo,
        )
        self._job.standing.note(simulated=facts[OS].is_practice_host)
        entries = self._entries(facts)
        groups = _by_step(entry for entry in entries if entry.step not in self._wishes.keep)
        self._job.standing.plan(list(groups))
        if self._wishes.only_check:
            for step, group in groups.items():
                self._end(step, self._removal(group, facts), "would-change")
        elif groups:
            kept = {*self._wishes.keep, *self._remove(groups, facts)}
            self._forget([entry for entry in entries if entry.step in kept])
        self._job.standing.note(stays=(*dict.fromkeys(self._stays), *self._remains(facts)))

    def _tell(self, step: str, text: str) -> None:
        self._progress(self._job.host.name, step, text)

    def _entries(self, facts: Facts) -> list[Entry]:
        command = Command.sh(READ, journal.PATH, sudo=True, max_output_bytes=JOURNAL_BYTES)
        text = run_checked(self._job.transport, command).text
        entries, complaints = journal.parse(text)
        self._stays += [f"ignored: {complaint}" for complaint in complaints]
        permitted = []
        for entry in entries:
            reason = refusal(entry, facts[LOGIN].home)
            if reason is None:
                permitted.append(entry)
            else:
                self._stays.append(f"ignored: {reason} (recorded by {entry.step})")
        return permitted

    def _removal(self, entries: Sequence[Entry], facts: Facts) -> Removal:
        traces = list(dict.fromkeys(entry.trace for entry in entries))
        survey = look(self._job.transport, traces, facts[PACKAGES].manager or "none")
        return plan(entries, survey, self._platform(facts), facts[LOGIN].home)

    def _platform(self, facts: Facts) -> Platform:
        return platform_of(facts[OS])

    def _remove(self, groups: Mapping[str, list[Entry]], facts: Facts) -> list[str]:
        """The steps of which something stays."""
        self._require_idle(groups, facts)
        self._require_agreement(groups, facts)
        left = []
        for step, entries in groups.items():
            self._job.stop.check()
            removal = self._removal(entries, facts)
            if removal.actions:
                self._take_back(step, removal)
                self._require_gone(step, self._removal(entries, facts))
            self._end(step, removal, "changed")
            left += [step] if removal.stays else []
        return left

    def _require_idle(self, groups: Mapping[str, list[Entry]], facts: Facts) -> None:
        jobs = facts[OCCUPANTS].jobs
        if jobs:
            raise BlockedError(
                f"rigup jobs run: {', '.join(jobs)}",
                remedy="wait for them or stop them: invoke jobs, invoke stop JOB",
            )
        running = facts[DOCKER].containers_running
        if running and "docker" in groups:
            raise BlockedError(
                f"{running} container(s) run, which removing Docker would stop",
                remedy="stop them (docker ps), or keep Docker: --keep docker",
            )

    def _require_agreement(self, groups: Mapping[str, list[Entry]], facts: Facts) -> None:
        if self._wishes.agree is None:
            return
        lines = [
            f"  {step}: {action.describe()}"
            for step, entries in groups.items()
            for action in self._removal(entries, facts).actions
        ]
        if not self._wishes.agree(self._job.host.name, "\n".join(lines)):
            raise BlockedError("not confirmed; nothing was removed")

    def _take_back(self, step: str, removal: Removal) -> None:
        self._lock.hold()
        self._job.standing.begin(step, "taking back")
        for action in removal.actions:
            self._job.stop.check()
            self._tell(step, f"  {action.label or action.describe()}")
            self._job.standing.doing(action.describe())
            action.apply(self._job.transport)

    def _require_gone(self, step: str, after: Removal) -> None:
        if after.actions:
            left = "; ".join(action.describe() for action in after.actions)
            raise StepFailed(
                f"{step} was taken back but is still there: {left}", remedy="read the transcript"
            )

    def _end(self, step: str, removal: Removal, status: str) -> None:
        self._stays += removal.stays
        self._stays += [f"{deed} (cannot be taken back)" for deed in removal.for_good]
        told = tuple(action.describe() for action in removal.actions)
        report = StepReport(step, status if told else "ok", _reason(removal, status), told)
        self._job.standing.end(report)
        self._tell(step, report.reason)

    def _forget(self, kept: Sequence[Entry]) -> None:
        """The journal says what is still there because it was to be kept."""
        transport = self._job.transport
        if kept:
            text = journal.render(kept)
            run_checked(transport, put_command(text.encode(), journal.FILE, sudo=True))
        else:
            run_checked(transport, Command.of("rm", "-rf", "--", STATE_DIRECTORY, sudo=True))

    def _remains(self, facts: Facts) -> tuple[str, ...]:
        words = (self._job.host.state_dir, facts[LOGIN].home)
        found = self._job.transport.run(Command.sh(REMAINS, *words, sudo=True))
        return tuple(f"{path}: data" for path in found.text.splitlines())


def _by_step(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Oldest first within a step; the step that came last comes first."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.step, []).append(entry)
    return dict(reversed(groups.items()))


def _reason(removal: Removal, status: str) -> str:
    if removal.actions:
        count = len(removal.actions)
        return f"{count} removal(s)" + (" to do" if status == "would-change" else "")
    return "nothing of it is left" if not removal.stays else "stays"
