"""What the checks before any change look at, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inventory import Host
from provisioner.facts import DOCKER, Facts, FactUnreadable

if TYPE_CHECKING:
    from provisioner.steps.lookahead import Lookahead

DEFAULT_DOCKER_ROOT = "/var/lib/docker"


@dataclass(frozen=True)
class Situation:
    """A host, and what the later steps would do to it."""

    facts: Facts
    host: Host
    ahead: Lookahead

    @property
    def docker_root(self) -> str:
        """Where Docker keeps or will keep its images."""
        return self.host.docker_data_root or self._present_docker_root()

    def _present_docker_root(self) -> str:
        try:
            configured = (self.facts[DOCKER].daemon_json or {}).get("data-root")
        except FactUnreadable:
            configured = None
        return configured if isinstance(configured, str) else DEFAULT_DOCKER_ROOT


@dataclass(frozen=True)
class Problem:
    """What would stop the installation, and what a person can do about it."""

    reason: str
    remedy: str
