"""Can the host fetch what the plan will install from? Asked once, right before the first package,
when proxy and certificate authorities of the inventory are in place.

The host asks all addresses at once, with the means of its own package manager: its proxy, its
authorities, its name servers count, not this machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from inventory import Host
from provisioner.actions import run_checked
from provisioner.command import Command
from provisioner.driver_plan import source_of
from provisioner.errors import BlockedError, RigupError
from provisioner.facts import ARCHIVE, OS, SOURCES, Facts, FactUnreadable
from provisioner.platforms import docker_source, platform_of
from provisioner.steps.base import Step
from provisioner.steps.lookahead import look_ahead
from provisioner.transport.base import Transport

PROBE_TIMEOUT_S = 120.0
"""More than two alternatives take that both run into the script's own limit of 45 s."""
SHOWN = 200
"""Characters of the reason that a program gives."""

# $1 is the proxy, which apt reads from its own configuration; each other argument holds one or
# more addresses of the same thing, separated by blanks: one of them must answer.
PROBE = r"""
set -f
proxy=$1
shift
directory=$(mktemp -d) || exit 1
trap 'rm -rf -- "$directory"' EXIT
chmod 755 "$directory"
limited() { if command -v timeout >/dev/null; then timeout 45 "$@"; else "$@"; fi; }
fetch() {
  if [ -x /usr/lib/apt/apt-helper ]; then
    limited /usr/lib/apt/apt-helper -o Acquire::Retries=0 -o Acquire::http::Timeout=15 \
      -o Acquire::https::Timeout=15 -o APT::Sandbox::User=root download-file "$1" "$2"
  elif command -v curl >/dev/null; then
    limited curl -gfsSL --connect-timeout 15 --max-time 40 --max-filesize 16777216 \
      ${proxy:+--proxy "$proxy"} -o "$2" --url "$1"
  elif command -v wget >/dev/null; then
    https_proxy=$proxy http_proxy=$proxy limited wget -q -T 15 -t 1 -O "$2" -- "$1"
  else
    echo 'no apt-helper, curl or wget on the host'
    return 1
  fi
}
number=0
for addresses; do
  number=$((number + 1))
  (
    for address in $addresses; do
      said=$(fetch "$address" "$directory/$number" 2>&1 </dev/null) && said= && break
      said=${said:-it did not answer in time}
    done
    printf '%s|%s\n' "$number" "$(printf %s "$said" | grep -v '^$' | head -n 3 | tr '\n' ' ')"
  ) &
done
wait
"""


@dataclass(frozen=True)
class Unreachable:
    """An address that the host cannot fetch, and what its program says about it."""

    address: str
    why: str


class Repositories:
    """Asks once per run. ``tell`` gets a line for people who watch."""

    def __init__(
        self, transport: Transport, host: Host, steps: Sequence[Step], tell: Callable[[str], None]
    ) -> None:
        self._transport = transport
        self._host = host
        self._steps = steps
        self._tell = tell
        self._asked = False

    def require(self, facts: Facts) -> None:
        """Raises BlockedError that names every address that does not answer."""
        if self._asked:
            return
        self._asked = True
        addresses = addresses_of(facts, self._host, self._steps)
        if not addresses:
            return
        self._tell(f"asking {len(addresses)} repository address(es)")
        missing = probe(self._transport, addresses, proxy=self._host.mirrors.http_proxy)
        if missing:
            raise self._blocked(missing, len(addresses))

    def _blocked(self, missing: Sequence[Unreachable], asked: int) -> BlockedError:
        listed = "".join(f"\n    {one.address}: {one.why}" for one in missing)
        proxy = self._host.mirrors.http_proxy
        through = f" (through the proxy {proxy})" if proxy else ""
        return BlockedError(
            f"{len(missing)} of {asked} repository addresses cannot be fetched on the host"
            f"{through}; no package was touched:{listed}",
            host=self._host.name,
            remedy="give the host a way there: mirrors.http_proxy, mirrors.ca_certificates where "
            "the network re-signs TLS, or mirrors of the repositories (docs/mirrors.md); or take a "
            "source that the host does not need out of its list",
        )


def probe(
    transport: Transport, addresses: Sequence[str], *, proxy: str | None = None
) -> tuple[Unreachable, ...]:
    """Those that the host cannot fetch, in order. Raises CommandFailed where it cannot even try."""
    command = Command.sh(PROBE, proxy or "", *addresses, sudo=True, timeout_s=PROBE_TIMEOUT_S)
    told = dict(
        line.partition("|")[::2] for line in run_checked(transport, command).text.splitlines()
    )
    answers = [told.get(str(number + 1), "no answer") for number in range(len(addresses))]
    return tuple(
        Unreachable(address.split()[0], " ".join(why.split())[:SHOWN])
        for address, why in zip(addresses, answers, strict=True)
        if why
    )


def addresses_of(facts: Facts, host: Host, steps: Sequence[Step]) -> tuple[str, ...]:
    """What the steps that install packages will fetch first; alternatives are in one string."""
    installing = look_ahead(steps, facts, host).installing
    if not installing:
        return ()
    vendor = [
        address
        for name in _vendors(installing, facts, host)
        for address in _of_vendor(name, facts, host)
    ]
    return tuple(dict.fromkeys((*archive_addresses(facts), *vendor)))


def _vendors(installing: Sequence[str], facts: Facts, host: Host) -> list[str]:
    """The vendor repositories that these steps install from."""
    wanted = {
        "docker": ["docker"] if docker_source(platform_of(facts[OS]), host) == "vendor" else [],
        "driver": ["nvidia"] if _vendor_driver(facts, host) else [],
        "toolkit": ["container_toolkit"],
    }
    return [name for step in installing for name in wanted.get(step, [])]


def _vendor_driver(facts: Facts, host: Host) -> bool:
    try:
        return source_of(facts, host) == "vendor"
    except RigupError:
        return False


def _of_vendor(name: str, facts: Facts, host: Host) -> tuple[str, ...]:
    """With the key's address where the key is not on the host yet."""
    platform = platform_of(facts[OS])
    source = platform.vendor_source(name, facts[OS], host)
    probes = platform.probe_urls(source)
    known = source.key_fingerprint in facts[SOURCES].keys.values()
    return probes if known else (*probes, source.key_url)


def archive_addresses(facts: Facts) -> Iterable[str]:
    """The distribution's own sources, as far as the host tells them; older ones sign Release."""
    try:
        sources = facts[ARCHIVE].sources
    except FactUnreadable:
        return
    for source in sources:
        for uri in source.uris.split():
            if not uri.startswith(("http://", "https://")) or "***@" in uri:
                continue
            for suite in source.suites:
                flat = suite.endswith("/")
                base = f"{uri.rstrip('/')}/{suite if flat else f'dists/{suite}/'}"
                yield f"{base}InRelease {base}Release"
