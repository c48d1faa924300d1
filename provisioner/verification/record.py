"""Proofs stay true as long as everything that they depend on is as it was: the fingerprint."""

from __future__ import annotations

import hashlib
import json

from provisioner.facts import DOCKER, GPU, OS, PACKAGES, PROOF, TOOLKIT, Facts
from provisioner.facts.proof import Proof

GENERATION = 2
"""Part of every fingerprint: counts up when a verification proves something else than before."""


def fingerprint(facts: Facts) -> str:
    """Boot, driver, GPUs and how they are split, Docker with its start and configuration, every
    program that starts a container, systemd, toolkit and CDI specifications.

    Raises FactUnreadable when one of these cannot be told.
    """
    gpu, docker, toolkit = facts[GPU], facts[DOCKER], facts[TOOLKIT]
    versions = facts[PACKAGES].versions
    known = [
        GENERATION,
        facts[OS].boot_id,
        [gpu.module_version, gpu.library_version, gpu.driver_version],
        sorted(one.uuid for one in gpu.gpus),
        [docker.server_version, docker.cgroup_driver, docker.daemon_json, list(docker.runtimes)],
        facts[PROOF].engine_started,
        [facts[PROOF].runtime_files, facts[PROOF].mig],
        [toolkit.version, toolkit.runtime_hook, toolkit.config_digest],
        sorted((name, version) for name, version in versions.items() if "container" in name),
        sorted((spec.path, spec.digest) for spec in toolkit.cdi),
    ]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def recorded(facts: Facts) -> tuple[Proof, ...]:
    """What an earlier run has proven on this very state; empty when it was another state."""
    record = facts[PROOF].record
    if record is None or record.fingerprint != fingerprint(facts):
        return ()
    return record.proofs
