"""Who we are on the host, and whether we may become root."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, Output, key_values


@dataclass(frozen=True)
class LoginFacts:
    """``groups`` are those of the user database, which a running session may not have yet.
    ``lingers``: systemd keeps the user's processes after the last logout (loginctl(1))."""

    user: str
    home: str
    is_root: bool
    sudo_without_password: bool
    groups: tuple[str, ...]
    lingers: bool = False


SCRIPT = r"""
user=${SUDO_USER:-$(id -un)}
printf 'USER=%s\nUID=%s\n' "$user" "$(id -u "$user")"
printf 'HOME=%s\n' "$(getent passwd "$user" | cut -d: -f6)"
printf 'GROUPS=%s\n' "$(id -nG "$user")"
[ -e "/var/lib/systemd/linger/$user" ] && echo LINGER=1
if sudo -n true 2>/dev/null; then echo SUDO=1; fi
exit 0
"""


def parse(output: Output) -> LoginFacts:
    values = key_values(output.text)
    return LoginFacts(
        user=values["USER"],
        home=values["HOME"],
        is_root=values["UID"] == "0",
        sudo_without_password=values.get("SUDO") == "1",
        groups=tuple(values.get("GROUPS", "").split()),
        lingers=values.get("LINGER") == "1",
    )


LOGIN = Fact("login", SCRIPT, parse)
