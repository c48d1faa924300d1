"""How the host reaches the network, as far as rigup sets that up: proxies, authorities, indexes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output
from provisioner.mirrors import CA_BUNDLE


@dataclass(frozen=True)
class NetworkFacts:
    """``files``: path -> content of the files that rigup writes or would write, if they are there.
    ``authorities``: path -> whether the system's bundle holds it, for those that rigup added.
    ``bundle``: what rigup's link to that bundle leads to; None where there is no such link."""

    files: Mapping[str, str]
    authorities: Mapping[str, bool]
    bundle: str | None = None


# The last full line of a certificate is of its signature, so no two have it in common.
SCRIPT = rf"""
shown() {{ head -c 16384 "$1" | sed 's|://[^/@ ]*@|://***@|g'; }}  # passwords stay on the host
for file in /etc/apt/apt.conf.d/90rigup-* /etc/profile.d/rigup-*.sh /etc/pip.conf \
    /etc/systemd/system/docker.service.d/rigup-proxy.conf; do
  [ -f "$file" ] && printf 'file|%s|%s\n' "$file" "$(shown "$file" | base64 | tr -d '\n')"
done
for file in /usr/local/share/ca-certificates/rigup-*.crt /etc/pki/trust/anchors/rigup-*.crt \
    /etc/pki/ca-trust/source/anchors/rigup-*.crt; do
  [ -f "$file" ] || continue
  held=0
  grep -qsF -e "$(tail -n 3 "$file" | head -n 1)" /etc/ssl/certs/ca-certificates.crt \
    /etc/pki/tls/certs/ca-bundle.crt /var/lib/ca-certificates/ca-bundle.pem && held=1
  printf 'authority|%s|%s\n' "$file" "$held"
done
[ -L {CA_BUNDLE} ] && printf 'bundle|%s\n' "$(readlink {CA_BUNDLE})"
exit 0
"""


def parse(output: Output) -> NetworkFacts:
    rows = [line.split("|") for line in output.text.splitlines() if "|" in line]
    return NetworkFacts(
        files={
            row[1]: base64.b64decode(row[2], validate=True).decode("utf-8", "replace")
            for row in rows
            if row[0] == "file"
        },
        authorities={row[1]: row[2] == "1" for row in rows if row[0] == "authority"},
        bundle=next((row[1] for row in rows if row[0] == "bundle"), None),
    )


NETWORK = Fact("network", SCRIPT, parse)
