"""A practice host brought back to what it was before rigup, data and all."""

from __future__ import annotations

from lab_program import LabHostShell

STRIP = r"""
systemctl stop docker docker.socket >/dev/null 2>&1
export DEBIAN_FRONTEND=noninteractive
apt-mark unhold $(apt-mark showhold) >/dev/null 2>&1
names='^(docker|containerd|runc|libnvidia|nvidia)'
ours() { dpkg-query -W -f '${Package}\n' | grep -E "$names"; }
[ -z "$(ours)" ] || apt-get purge -y --auto-remove $(ours) >/dev/null 2>&1
rm -rf /etc/apt/sources.list.d/rigup-* /etc/apt/keyrings/rigup-* /etc/docker /var/lib/rigup \
  ~lab/.rigup ~lab/.config
gpasswd -d lab docker >/dev/null 2>&1
loginctl disable-linger lab
ours || true
"""


def strip(host: LabHostShell) -> LabHostShell:
    assert host.run(STRIP) == ""
    return host
