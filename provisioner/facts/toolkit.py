"""The NVIDIA container toolkit: version, hooks on the path, CDI specifications."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output, key_values


@dataclass(frozen=True)
class CdiSpec:
    """A CDI specification of NVIDIA GPUs. ``version`` is the specification's own; ``drivers`` are
    the driver versions whose libraries it names."""

    path: str
    digest: str
    version: str | None = None
    drivers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToolkitFacts:
    """``version`` of nvidia-ctk, None where it is not installed. ``config_digest`` is that of the
    container runtime's configuration, empty without one. ``refreshes``: the toolkit's own service
    keeps /var/run/cdi/nvidia.yaml up to date (toolkit 1.18 and newer)."""

    version: str | None
    runtime_hook: bool
    cdi: tuple[CdiSpec, ...] = ()
    config_digest: str = ""
    refreshes: bool = False


SCRIPT = r"""
if command -v nvidia-ctk >/dev/null; then
  echo "version=$(limited nvidia-ctk --version 2>&1 | head -n1)"
fi
command -v nvidia-container-runtime-hook >/dev/null && echo hook=1
config=/etc/nvidia-container-runtime/config.toml
[ -r $config ] && echo "config=$(sha256sum < $config | cut -c -64)"
for unit in /usr/lib/systemd/system /lib/systemd/system /etc/systemd/system; do
  [ -e $unit/nvidia-cdi-refresh.service ] && echo refreshes=1 && break
done
libraries='lib(cuda|nvidia-ml)\.so\.[0-9]{3}\.[0-9.]+'
for file in /etc/cdi/*.yaml /etc/cdi/*.json /var/run/cdi/*.yaml /var/run/cdi/*.json; do
  [ -r "$file" ] && grep -qs 'nvidia\.com/gpu' "$file" || continue
  printf 'cdi|%s|%s|%s|%s\n' "$file" "$(sha256sum < "$file" | cut -c -64)" \
    "$(sed -n 's/^[ {]*"\{0,1\}cdiVersion"\{0,1\}: *"\{0,1\}\([0-9.]*\).*/\1/p' "$file")" \
    "$(grep -aoE "$libraries" "$file" | sed 's/.*\.so\.//' | sort -u | paste -sd, -)"
done
exit 0
"""


def parse(output: Output) -> ToolkitFacts:
    lines = output.text.splitlines()
    values = key_values("\n".join(line for line in lines if not line.startswith("cdi|")))
    found = re.search(r"\d+\.\d+\.\d+", values.get("version", ""))
    if "version" in values and found is None:
        raise ValueError("nvidia-ctk does not tell its version")
    return ToolkitFacts(
        version=found[0] if found else None,
        runtime_hook=values.get("hook") == "1",
        cdi=tuple(_spec(*line.split("|")[1:]) for line in lines if line.startswith("cdi|")),
        config_digest=values.get("config", ""),
        refreshes=values.get("refreshes") == "1",
    )


def _spec(path: str, digest: str, version: str, drivers: str) -> CdiSpec:
    return CdiSpec(path, digest, version or None, tuple(drivers.split(",")) if drivers else ())


TOOLKIT = Fact("toolkit", SCRIPT, parse, slow=True)
