"""The kernel: which one runs, which one would boot next, and what a module needs to be built."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

BLACKLIST = "/etc/modprobe.d/rigup-nouveau.conf"
"""Written by the kernel step; an initramfs that is older than it still has nouveau."""


@dataclass(frozen=True)
class KernelFacts:
    """Releases are as ``uname -r`` says them.

    ``newest``: the newest installed one of the running flavour, None where none is installed here.
    ``passed_over``: it was there at the last boot already, and another one was chosen.
    ``headers_for``: those with which a module can be built. ``metapackages``: installed ones that
    bring new kernels (``linux-image-amd64``) or their headers; ``held`` those of them that may not
    be upgraded. ``secure_boot``: the kernel refuses
    unsigned modules; ``mok_enrolled``: it accepts those that DKMS signs. ``initramfs_stale``: made
    before rigup blacklisted nouveau; ``initramfs_tool`` makes one, None: this host boots without.
    ``container``: its kind, where the kernel is the outer
    machine's. ``reboot_required``: the distribution's own sign.
    """

    running: str
    newest: str | None
    headers_for: tuple[str, ...]
    secure_boot: bool | None
    nouveau_blacklisted: bool
    reboot_required: bool
    passed_over: bool = False
    metapackages: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    mok_enrolled: bool = False
    nouveau_installed: bool = False
    initramfs_tool: str | None = None
    initramfs_stale: bool = False
    container: str | None = None

    @property
    def next(self) -> str:
        """The release that the next boot brings, as far as can be told."""
        if self.newest is None or self.passed_over:
            return self.running
        return max(self.running, self.newest, key=release_key)


SCRIPT = rf"""
running=$(uname -r)
echo "running|$running"
if [ -r /run/systemd/container ]; then
  echo "container|$(cat /run/systemd/container)"
elif [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then
  echo 'container|container'
fi
while read -r key value; do [ "$key" = btime ] && booted=$value; done < /proc/stat
for directory in /lib/modules/*; do
  release=${{directory##*/}}
  [ -e "$directory/build/Makefile" ] && echo "headers|$release"
  for image in /boot/vmlinuz-"$release" /boot/Image-"$release" "$directory/vmlinuz" \
      "$directory/Image"; do
    [ -e "$image" ] || continue
    waited=0
    [ "$(stat -L -c %Z "$image")" -lt "${{booted:-0}}" ] && waited=1
    echo "kernel|$release|$waited"
    break
  done
  for initramfs in /boot/initrd.img-"$release" /boot/initramfs-"$release".img \
      /boot/initrd-"$release"; do
    [ -e "$initramfs" ] && [ {BLACKLIST} -nt "$initramfs" ] && echo 'stale|'
  done
done
grep -qs '/nouveau\.ko' "/lib/modules/$running/modules.dep" && echo 'nouveau|'
cat /etc/modprobe.d/*.conf /run/modprobe.d/*.conf /usr/lib/modprobe.d/*.conf \
  /lib/modprobe.d/*.conf 2>/dev/null |
  grep -Eq '^[[:space:]]*(blacklist[[:space:]]+nouveau[[:space:]]*$|install[[:space:]]+nouveau )' &&
  echo 'blacklisted|'
grep -Eqs '(modprobe|driver)\.blacklist=[^ ]*nouveau' /proc/cmdline && echo 'blacklisted|'
for file in /run/reboot-required /var/run/reboot-required /run/reboot-needed; do
  [ -e "$file" ] && echo 'reboot|'
done
for tool in update-initramfs dracut mkinitrd; do
  command -v "$tool" >/dev/null && {{ echo "initramfs|$tool"; break; }}
done
efivar() {{ od -An -t u1 -j4 -N1 "/sys/firmware/efi/efivars/$1" 2>/dev/null | tr -d ' '; }}
if [ -d /sys/firmware/efi ]; then
  state=$(efivar SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c)
  [ "$(efivar MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23)" = 1 ] && state=0
  echo "secure|${{state:-unknown}}"
  [ "$state" = 1 ] && for key in /var/lib/dkms/mok.pub /var/lib/shim-signed/mok/MOK.der; do
    [ -e "$key" ] && mokutil --test-key "$key" 2>/dev/null | grep -q 'already enrolled' &&
      echo 'mok|'
  done
else
  echo 'secure|0'
fi
command -v dpkg-query >/dev/null &&
  dpkg-query -W -f '${{db:Status-Abbrev}}|${{Package}}\n' 'linux-image-*' 'linux-headers-*' \
    2>/dev/null | sed -n 's/^\(.\)i *|/package|\1|/p'
exit 0
"""

FLAVOUR = re.compile(
    r"-(?P<deb>[a-z][\w-]*)\Z|(?P<rpm>(?:uek)?\.(?:x86_64|aarch64)(?:\+[\w-]+)?)\Z"
)
METAPACKAGE = re.compile(r"linux-(?:image|headers)-(?!unsigned)[a-z][a-z0-9.-]*")
VERSIONED = re.compile(r"\d+\.\d+\.\d+|\d+-\d+")


def parse(output: Output) -> KernelFacts:
    rows = [line.split("|") for line in output.text.splitlines() if "|" in line]
    said = {row[0]: row[1] for row in rows}
    running = said["running"]
    kernels = {row[1]: row[2] == "1" for row in rows if row[0] == "kernel"}
    newest = newest_of(running, kernels)
    metas = [(row[2], row[1]) for row in rows if row[0] == "package" and _is_meta(row[2])]
    return KernelFacts(
        running=running,
        newest=newest,
        headers_for=tuple(row[1] for row in rows if row[0] == "headers"),
        secure_boot={"0": False, "1": True}.get(said.get("secure", "")),
        nouveau_blacklisted="blacklisted" in said,
        reboot_required="reboot" in said,
        passed_over=newest not in (None, running) and kernels.get(newest or "", False),
        metapackages=tuple(name for name, _ in metas),
        held=tuple(name for name, wish in metas if wish == "h"),
        mok_enrolled="mok" in said,
        nouveau_installed="nouveau" in said,
        initramfs_tool=said.get("initramfs"),
        initramfs_stale="stale" in said,
        container=said.get("container"),
    )


def newest_of(running: str, releases: Iterable[str]) -> str | None:
    """The newest release of the running one's flavour."""
    same = [release for release in releases if flavour(release) == flavour(running)]
    return max(same, key=release_key, default=None)


def flavour(release: str) -> str:
    """``cloud-amd64`` of 6.12.57+deb13-cloud-amd64, ``.x86_64+rt`` of 5.14.0-503.el9.x86_64+rt."""
    found = FLAVOUR.search(release)
    return (found["deb"] or found["rpm"]) if found else ""


def release_key(release: str) -> tuple[int, ...]:
    """Its leading numbers: what follows (``+deb13-amd64``, ``.el9_5.x86_64``) does not order."""
    leading = re.match(r"\d+(?:[.-]\d+)*", release)
    return tuple(map(int, re.findall(r"\d+", leading[0]))) if leading else ()


def _is_meta(package: str) -> bool:
    return METAPACKAGE.fullmatch(package) is not None and not VERSIONED.search(package)


KERNEL = Fact("kernel", SCRIPT, parse)
