"""A reboot as a transaction: refused while somebody works, done once the boot id is a new one.

::

    occupied? ──yes──> refused, naming who
        │ no
    agreed? ──no──> RebootRequired
        │ yes
    hold new jobs (on the host, for ten minutes at the most)
        │
    occupied by now? ──yes──> hold released; refused, naming who
        │ no
    record it (here and on the host), look at the GPUs, ask for it: one script on the host
        │
    wait for a new boot id ──too long──> RebootPending, which the next run picks up
        │
    forget the record, go on
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from inventory import Host
from provisioner import pending
from provisioner.actions import run_checked
from provisioner.command import Command
from provisioner.errors import (
    BlockedError,
    CommandFailed,
    ConnectionLost,
    RebootPending,
    RebootRequired,
    RigupError,
    StepFailed,
    TransportError,
)
from provisioner.facts.pending import PATH, PendingReboot
from provisioner.occupied import require_idle
from provisioner.transport.base import Transport

DEFAULT_TIMEOUT_S = 900.0
MOST_PER_RUN = 3
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
PROBE_TIMEOUT_S = 15.0
BOOT_TIMEOUT_S = 180
GOING_DOWN_S = 60.0
"""A host that still has its old boot id so long after it was asked does not reboot any more."""

IN_USE = 75
ASK = r"""
set -eu
umask 022
used=$(timeout 20 nvidia-smi --query-compute-apps=pid --format=csv,noheader 2>/dev/null |
  grep -x '[0-9][0-9]*' | head -n 8 | tr '\n' ' ') || true
[ -z "$used" ] || { echo "$used"; exit 75; }
mkdir -p "$(dirname "$1")"
printf '%s\n' "$2" > "$1.new"
sync "$1.new"
mv -f "$1.new" "$1"
setsid sh -c 'sleep 1; systemctl reboot || reboot' </dev/null >/dev/null 2>&1 &
"""
HOLD_PATH = "/run/rigup/reboot-hold"
"""As in remote_agent/reboot_hold.py: no job of any user starts while it is there and fresh."""
HOLD_SETTLES_S = 2.0
"""A dispatcher that looked just before has started its job, and the job's state says so."""
HOLD = r"""
set -eu
umask 022
mkdir -p "$(dirname "$1")"
printf '%s, by %s\n' "$2" "${SUDO_USER:-root}" > "$1.new"
mv -f "$1.new" "$1"
"""
RELEASE = 'rm -f -- "$1"'
"""Also after a host did not go down: its jobs need not wait for the hold to grow old."""
BOOT_ID = Command.of("cat", "/proc/sys/kernel/random/boot_id", timeout_s=PROBE_TIMEOUT_S)
WHEN_STARTED = Command.of(
    *("timeout", str(BOOT_TIMEOUT_S), "systemctl", "is-system-running", "--wait"),
    timeout_s=BOOT_TIMEOUT_S + PROBE_TIMEOUT_S,
)


@dataclass(frozen=True)
class RebootPolicy:
    """May hosts be rebooted, how long may one take, and who says yes.

    ``agree`` gets the host's name and what would be lost; it may ask a person.
    """

    allowed: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S
    agree: Callable[[str, str], bool] = lambda host, warning: True


class Reboots:
    """The reboots of one host in one run: at most one for a step, three in all.

    ``sleep`` gets seconds; it may raise to give up waiting.
    """

    def __init__(
        self,
        host: Host,
        transport: Transport,
        policy: RebootPolicy,
        tell: Callable[[str], None],
        *,
        sudo: bool,
        sleep: Callable[[float], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._transport = transport
        self._policy = policy
        self._tell = tell
        self._sudo = sudo
        self._sleep = sleep
        self._clock = clock
        self._steps: list[str] = []
        self.done = 0

    def reboot(self, step: str, reason: str, boot_id: str) -> None:
        """Returns when the host is up again. Raises RebootRequired (not allowed), BlockedError
        (in use, not agreed), RebootPending (too long), StepFailed (a loop) or TransportError."""
        self._refuse_loop(step, reason)
        if not self._policy.allowed:
            raise RebootRequired(
                f"{step}: only a reboot helps ({reason})",
                host=self._host.name,
                remedy="provision with --reboot, or reboot the host when nobody needs it and "
                "provision again",
            )
        self._require_agreement(step)
        self._sleep(0)  # a yes that comes after ctrl-c, or after the host's time, is none
        self._hold_new_jobs(step)
        asked = PendingReboot(step, boot_id, self._clock())
        self._ask(asked)
        self._steps.append(step)
        self._wait(asked)
        self.settle(asked)

    def pick_up(self, asked: PendingReboot, boot_id: str) -> bool:
        """An earlier run asked for a reboot. True when the host came back from it (waiting for
        that, if it is just going down); the record is then gone."""
        if boot_id == asked.boot_id and self._clock() - asked.asked_at < GOING_DOWN_S:
            self._tell(f"{pending.told(asked)}, waiting for it")
            self._wait(asked)
            boot_id = ""
        came_back = boot_id != asked.boot_id
        if came_back:
            self._steps.append(asked.step)
        ending = "the host came back from it" if came_back else "the host did not reboot"
        self._tell(f"{pending.told(asked)}: {ending}")
        self.settle(asked)
        return came_back

    def wait_for_absent(self, asked: PendingReboot, error: TransportError) -> None:
        """The host does not answer and an earlier run asked for a reboot: wait for the rest of
        its time, if reboots are allowed. Raises RebootPending when it stays away."""
        if not self._policy.allowed or self._left(asked) <= 0:
            raise self._pending(asked, f"it has not come back yet ({error.message})") from error
        self._tell(f"{pending.told(asked)}, waiting for the host")
        self._wait(asked)

    def settle(self, asked: PendingReboot) -> None:
        """The reboot is over: nobody needs the record any more, and jobs may start."""
        run_checked(self._transport, Command.of("rm", "-f", PATH, HOLD_PATH, sudo=True))
        pending.forget(self._host.name)

    def _refuse_loop(self, step: str, reason: str) -> None:
        if step in self._steps:
            raise StepFailed(
                f"{step} still needs a reboot after one: {reason}",
                host=self._host.name,
                remedy=f"look at the host (dmesg, journalctl -b), or: invoke doctor --host "
                f"{self._host.name}",
            )
        if len(self._steps) >= MOST_PER_RUN:
            raise StepFailed(
                f"{step} needs a reboot, and this run has done {MOST_PER_RUN} already "
                f"({', '.join(self._steps)})",
                host=self._host.name,
                remedy="provision again if that is as it should be",
            )

    def _require_agreement(self, step: str) -> None:
        warning = require_idle(self._host, self._transport, step, sudo=self._sudo)
        if not self._policy.agree(self._host.name, warning):
            raise RebootRequired(
                f"{step} needs a reboot, which was not agreed to",
                host=self._host.name,
                remedy="provision again with --reboot when it may go down",
            )

    def _hold_new_jobs(self, step: str) -> None:
        """The question may have been open for hours: look again, now that no job can start.
        Raises BlockedError where the host is in use by now; jobs then start again."""
        told = f"{step} of {self._host.name}"
        run_checked(self._transport, Command.sh(HOLD, HOLD_PATH, told, sudo=True))
        try:
            self._sleep(HOLD_SETTLES_S)
            require_idle(self._host, self._transport, step, sudo=self._sudo)
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        with suppress(RigupError):
            self._transport.run(Command.sh(RELEASE, HOLD_PATH, sudo=True))

    def _ask(self, asked: PendingReboot) -> None:
        self._tell("rebooting")
        pending.remember(self._host.name, asked)
        command = Command.sh(ASK, PATH, asked.to_json(), sudo=True)
        try:
            result = self._transport.run(command)
            if result.exit_code == IN_USE:
                raise BlockedError(
                    f"{asked.step} needs a reboot, and GPU processes have just started: "
                    f"{result.text.strip()[:200]}",
                    host=self._host.name,
                    remedy="wait until they are done, or stop them; then provision again",
                )
            if not result.ok:
                raise CommandFailed(result, host=self._host.name)
        except ConnectionLost:
            pass  # it went down before it could say so
        except BaseException:
            pending.forget(self._host.name)
            self._release()
            raise

    def _wait(self, asked: PendingReboot) -> None:
        """For a new boot id, and then for the system to have started."""
        pause, answer = FIRST_PAUSE_S, "it has not answered since"
        while (left := self._left(asked)) > 0:
            self._sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE_S)
            try:
                boot_id = self._boot_id()
            except TransportError as error:
                answer = error.message
                continue
            if boot_id != asked.boot_id:
                self._transport.run(WHEN_STARTED)
                self.done += 1
                took = f"up again after {self._clock() - asked.asked_at:.0f} s"
                self._tell(f"{took}: boot id {boot_id} instead of {asked.boot_id}")
                return
            answer = "it answers, with the same boot id: it did not go down"
        raise self._pending(asked, f"not up again within {self._policy.timeout_s:g} s ({answer})")

    def _boot_id(self) -> str:
        self._transport.close()
        return run_checked(self._transport, BOOT_ID).text.strip()

    def _left(self, asked: PendingReboot) -> float:
        return asked.asked_at + self._policy.timeout_s - self._clock()

    def _pending(self, asked: PendingReboot, state: str) -> RebootPending:
        return RebootPending(
            f"{pending.told(asked)}: {state}",
            host=self._host.name,
            remedy="look at the host's console; provision again when it answers: it goes on there",
        )
