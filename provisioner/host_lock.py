"""One run at a time changes a host: who comes second is told who is at work.

The lock belongs to the connection: it names the SSH server's process that serves this run, so it
is free again when that process is gone, however the run ended. It lies in /run, so a reboot frees
it too. A run takes it before every change; looking takes no lock.
"""

from __future__ import annotations

import getpass
import secrets
import socket
from contextlib import suppress
from datetime import datetime, timezone

from provisioner.command import Command
from provisioner.errors import BlockedError, CommandFailed, SudoError
from provisioner.transport.base import Transport

PATH = "/run/rigup/at-work"
HELD = 75
TIMEOUT_S = 60.0
LONGEST_NAME = 200

# The lock's lines: the run, the process that serves it, when that began (proc(5), field 22: another
# process may get the same number later), and who it is.
SCRIPT = r"""
set -eu
umask 022
lock=$1 run=$2 who=$3 pid=$$
while [ "$pid" -gt 1 ]; do
  case $(cat "/proc/$pid/comm") in sshd* | dropbear*) break ;; esac
  pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
done
[ "$pid" -gt 1 ] || exit 0
began() { [ ! -r "/proc/$1/stat" ] || sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20; }
mkdir -p "$(dirname "$lock")"
exec 9>> "$lock.guard"
flock -w 30 9
if [ -e "$lock" ]; then
  other= server= since= name=
  { read -r other && read -r server && read -r since && read -r name; } < "$lock" || since=
  if [ "$other" != "$run" ] && [ -n "$since" ] && [ "$(began "$server")" = "$since" ]; then
    printf '%s (its connection is process %s)\n' "$name" "$server"
    exit 75
  fi
fi
printf '%s\n' "$run" "$pid" "$(began "$pid")" "$who" > "$lock"
"""


class HostLock:
    """One run's claim to change one host."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._run = secrets.token_hex(8)
        self._who = f"{_user()}@{socket.gethostname()} since {_now()}"

    def hold(self) -> None:
        """Take the lock, or keep it. Raises BlockedError while another run has it, and
        CommandFailed or TransportError. Who may not become root changes nothing that others do."""
        command = Command.sh(SCRIPT, PATH, self._run, self._who, sudo=True, timeout_s=TIMEOUT_S)
        with suppress(SudoError):
            result = self._transport.run(command)
            if result.exit_code == HELD:
                raise BlockedError(
                    f"another run of rigup changes this host: {result.text.strip()[:LONGEST_NAME]}",
                    host=self._transport.host_name,
                    remedy="wait for it and provision again; if it hangs, kill that process",
                )
            if not result.ok:
                raise CommandFailed(result, host=self._transport.host_name)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%H:%M:%S UTC")
