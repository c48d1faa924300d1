"""Does the inventory's proxy work from the host? Asked before it is written anywhere: apt, login
shells and Docker would all lose the network by a wrong one, and Docker is restarted for it."""

from __future__ import annotations

from collections.abc import Sequence

from inventory import Host
from provisioner.actions import Action, WriteFile, run_checked
from provisioner.command import Command
from provisioner.errors import BlockedError
from provisioner.facts import OS, Facts
from provisioner.platforms import platform_of
from provisioner.reachability import archive_addresses
from provisioner.transport.base import Transport

TIMEOUT_S = 120.0
MOST_ADDRESSES = 6
"""Of 15 s each, one after the other."""
SHOWN = 300

# $1 is the proxy, the others are addresses: one answer is enough. What is fetched is thrown away,
# so certificates do not matter: the authorities of a proxy that signs again come with the same
# step. An answer of a server that refuses this address (4xx, but for the proxy's own 407) counts.
PROBE = r"""
set -f
proxy=$1
shift
target=$(mktemp) || exit 1
trap 'rm -f -- "$target"' EXIT
limited() { if command -v timeout >/dev/null; then timeout 15 "$@"; else "$@"; fi; }
fetch() {
  if [ -x /usr/lib/apt/apt-helper ]; then
    limited /usr/lib/apt/apt-helper -o Acquire::Retries=0 -o Acquire::http::Timeout=10 \
      -o Acquire::https::Timeout=10 -o APT::Sandbox::User=root \
      -o "Acquire::http::Proxy=$proxy" -o "Acquire::https::Proxy=$proxy" \
      -o Acquire::https::Verify-Peer=false -o Acquire::https::Verify-Host=false \
      download-file "$1" "$target"
  elif command -v curl >/dev/null; then
    limited curl -qgfsSLk --noproxy '' --proxy "$proxy" --connect-timeout 10 \
      --max-filesize 16777216 -o "$target" --url "$1"
  elif command -v wget >/dev/null; then
    https_proxy=$proxy http_proxy=$proxy no_proxy= limited wget -nv --no-check-certificate \
      -T 10 -t 1 -O "$target" -- "$1"
  else
    echo 'no apt-helper, curl or wget on the host'
    return 1
  fi
}
for address; do
  said=$(fetch "$address" 2>&1 </dev/null) && { echo answered; exit 0; }
  case $said in  # as curl, apt and wget tell a status
    *'error: 407'* | *'  407  '* | *'ERROR 407'*) ;;
    *'error: 4'[0-9][0-9]* | *'  4'[0-9][0-9]'  '* | *'ERROR 4'[0-9][0-9]*) echo answered; exit 0 ;;
  esac
  printf '%s\n' "${said:-it did not answer in time}" | grep -v '^$' | head -n 2 | tr '\n' ' '
done
"""


def require_working_proxy(
    transport: Transport, host: Host, facts: Facts, actions: Sequence[Action]
) -> None:
    """Asks where ``actions`` would write the inventory's proxy. Raises BlockedError when nothing
    answers through it."""
    proxy = host.mirrors.http_proxy
    if proxy is None or not any(_writes(action, proxy) for action in actions):
        return
    addresses = _addresses(facts, host)
    if not addresses:
        return
    command = Command.sh(PROBE, proxy, *addresses, sudo=True, timeout_s=TIMEOUT_S)
    told = " ".join(run_checked(transport, command).text.split())
    if told.endswith("answered"):
        return
    raise BlockedError(
        f"repository addresses cannot be fetched on the host through the proxy {proxy}, and no "
        f"setting was changed: {told[:SHOWN]}",
        host=host.name,
        remedy=f"correct mirrors.http_proxy in the inventory; on the host, curl -x {proxy} "
        f"-I {addresses[0]}",
    )


def _writes(action: Action, proxy: str) -> bool:
    """A unit's file doubles ``%`` (systemd.unit(5))."""
    return isinstance(action, WriteFile) and (
        proxy in action.content or proxy.replace("%", "%%") in action.content
    )


def _addresses(facts: Facts, host: Host) -> tuple[str, ...]:
    """Of the distribution's own sources, and of the toolkit's repository, which every host has."""
    archive = [address.split()[0] for address in archive_addresses(facts)]
    platform = platform_of(facts[OS])
    toolkit = platform.probe_urls(platform.vendor_source("container_toolkit", facts[OS], host))
    web = [one for one in toolkit if one.startswith(("http://", "https://"))]
    return tuple(dict.fromkeys([*archive[: MOST_ADDRESSES - 1], *web]))[:MOST_ADDRESSES]
