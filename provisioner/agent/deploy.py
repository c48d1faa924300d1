"""Put the agent on a host: check by hash, upload once, clear away what nobody uses any more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from provisioner.agent.bundle import Bundle, build_bundle
from provisioner.command import Command
from provisioner.errors import AgentError, CommandFailed
from provisioner.transport.base import Transport

DEFAULT_STATE_DIR = ".rigup"
KEEP_DAYS = 30
"""Agent files of other versions that were not in use for so long are deleted: every start and,
hourly, every dispatcher and connection touch theirs; a supervisor has it in memory."""
CURRENT = "current.pyz"
"""Symlink to the version that was deployed last, for what starts at boot."""

NO_PYTHON_EXIT = 44
PYTHON_REMEDY = (
    "install Python 3.8 or newer as python3: `sudo apt-get install python3` (Debian, Ubuntu), "
    "`sudo dnf install python3` (RHEL family, Fedora), `sudo zypper install python3` (SUSE)"
)

LOCATE = r"""
case $1 in /*) dir=$1 ;; "~/"*) dir=$HOME/${1#"~/"} ;; *) dir=$HOME/$1 ;; esac
"""

LINK = r"""
point() {
  ln -s "$2.pyz" "$1/agent/.current.$$" && mv -fT "$1/agent/.current.$$" "$1/agent/current.pyz"
}
"""

FINISH = LOCATE + LINK + 'point "$dir" "$2"\n'

PREPARE = (
    LOCATE
    + LINK
    + r"""
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
  python3 --version 2>&1 || echo "no python3 on PATH"
  exit 44
fi
umask 077
mkdir -p "$dir/agent" || exit 1
find "$dir/agent" -type f -name '*.pyz' ! -name "$2.pyz" -mtime +"$3" -delete 2>/dev/null
if [ "$(sha256sum "$dir/agent/$2.pyz" 2>/dev/null | cut -c1-64)" = "$2" ]; then
  point "$dir" "$2" || exit 1
  echo present
else
  echo absent
fi
printf '%s\n' "$dir/agent/$2.pyz"
"""
)


@dataclass(frozen=True)
class AgentLocation:
    """``path`` is absolute on the host; ``uploaded`` is False when it was there already."""

    path: PurePosixPath
    digest: str
    uploaded: bool


def deploy(transport: Transport, state_dir: str = DEFAULT_STATE_DIR) -> AgentLocation:
    """Make sure that this version's agent lies on the host and that :data:`CURRENT` names it.

    Idempotent. Raises AgentError (``no-python``) where no Python >= 3.8 is, CommandFailed when
    the state directory cannot be made.
    """
    bundle = build_bundle()
    present, path = _prepare(transport, state_dir, bundle)
    if not present:
        transport.put(bundle.data, path, mode=0o600)
        finished = transport.run(Command.sh(FINISH, state_dir, bundle.digest))
        if not finished.ok:
            raise CommandFailed(finished, host=transport.host_name)
    return AgentLocation(path, bundle.digest, uploaded=not present)


def no_python(host: str, found: str) -> AgentError:
    return AgentError(
        f"Python >= 3.8 is missing on the host ({found.strip() or 'nothing found'})",
        code="no-python",
        host=host,
        remedy=PYTHON_REMEDY,
    )


def _prepare(transport: Transport, state_dir: str, bundle: Bundle) -> tuple[bool, PurePosixPath]:
    result = transport.run(Command.sh(PREPARE, state_dir, bundle.digest, str(KEEP_DAYS)))
    if result.exit_code == NO_PYTHON_EXIT:
        raise no_python(transport.host_name, result.text)
    lines = result.text.splitlines()
    if not result.ok or len(lines) < 2:
        raise CommandFailed(result, host=transport.host_name)
    return lines[-2] == "present", PurePosixPath(lines[-1])
