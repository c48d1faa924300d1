"""Ubuntu, long-term releases."""

from __future__ import annotations

from provisioner.platforms.apt import AptPlatform


class Ubuntu(AptPlatform):
    name = "ubuntu"
    os_id = "ubuntu"
    codenames = {  # noqa: RUF012
        "22.04": "ubuntu2204",
        "24.04": "ubuntu2404",
        "26.04": "ubuntu2604",
    }
