"""Repositories are asked on the host, once, before the first package; the script really runs."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_host import Package, ScriptedHost
from situations import facts_of, host_of

from inventory import Host
from inventory.model import Mirrors, Repository
from provisioner.actions import Run
from provisioner.command import Command, Result
from provisioner.errors import BlockedError, ExitCode
from provisioner.facts import Facts
from provisioner.host_job import Job
from provisioner.reachability import PROBE, Repositories, addresses_of, probe
from provisioner.report import HostReport
from provisioner.runner import check_only, provision
from provisioner.steps import LATER_STEPS, Change, Outcome
from provisioner.traces import Trace
from provisioner.transport.fake import FakeTransport

CASE = {"from": "fresh", "facts": {"packages": {"versions": {}}}}
HOST = replace(host_of({}), driver_source="vendor")
ARCHIVE = {
    "sources": [
        {
            "uris": "http://deb.example/debian",
            "suites": "trixie trixie-updates",
            "components": "main",
        },
        {"uris": "file:/srv/mirror cdrom:x", "suites": "trixie", "components": "main"},
        {"uris": "https://***@secret.example/", "suites": "trixie", "components": "main"},
        {"uris": "https://flat.example/repo/", "suites": "./", "components": ""},
    ]
}


def asked(case: dict[str, object], host=HOST) -> tuple[str, ...]:
    return addresses_of(facts_of(case, host), host, LATER_STEPS)


def test_what_a_fresh_host_will_fetch_first() -> None:
    found = asked({"from": "fresh", "facts": {"archive": ARCHIVE}})
    debian = "http://deb.example/debian/dists"
    assert found[:3] == (
        f"{debian}/trixie/InRelease {debian}/trixie/Release",
        f"{debian}/trixie-updates/InRelease {debian}/trixie-updates/Release",
        "https://flat.example/repo/./InRelease https://flat.example/repo/./Release",
    )
    vendors = [address for address in found if "nvidia" in address]
    assert any(address.endswith("/debian12/x86_64/InRelease") for address in vendors)
    assert any(address.endswith("/libnvidia-container/gpgkey") for address in vendors)
    assert not any("docker.com" in address for address in found)


def test_the_inventorys_mirrors_are_asked_instead() -> None:
    mirror = Repository("https://mirror.example/nvidia/", "https://mirror.example/key.asc")
    host = replace(HOST, docker_source="vendor", mirrors=Mirrors(nvidia=mirror))
    found = asked({"from": "fresh"}, host)
    assert "https://mirror.example/nvidia/InRelease" in found
    assert "https://mirror.example/key.asc" in found
    assert any(address.startswith("https://download.docker.com/") for address in found)
    assert not any("developer.download.nvidia.com" in address for address in found)


def test_a_key_that_is_there_is_not_fetched_again() -> None:
    found = asked({"from": "fresh", "sources": ["nvidia", "container_toolkit"]})
    assert found
    assert not any(address.endswith((".pub", "gpgkey")) for address in found)


@pytest.mark.parametrize(
    "case", [{"from": "converged"}, {"from": "converged", "facts": {"agent": {"builds": []}}}]
)
def test_nothing_is_asked_where_no_package_is_installed(case: dict[str, object]) -> None:
    host = FakeTransport(lambda command: Result(command, 0))
    assert asked(case) == ()
    Repositories(host, HOST, LATER_STEPS, print).require(facts_of(case, HOST))
    assert not host.commands


def answering(text: str) -> FakeTransport:
    return FakeTransport(lambda command: Result(command, 0, text.encode()))


def test_every_address_that_does_not_answer_is_named_at_once() -> None:
    host = replace(HOST, mirrors=Mirrors(http_proxy="http://proxy.example:1"))
    facts = facts_of({"from": "fresh"}, host)
    count = len(addresses_of(facts, host, LATER_STEPS))
    told = "".join(f"{number}|\n" for number in range(3, count + 1))
    repositories = Repositories(
        answering(f"1|Could not resolve\n2|refused\n{told}"), host, LATER_STEPS, print
    )
    with pytest.raises(BlockedError) as error:
        repositories.require(facts)
    assert f"2 of {count} repository addresses cannot be fetched" in error.value.message
    assert "through the proxy http://proxy.example:1" in error.value.message
    assert ": Could not resolve" in error.value.message
    assert ": refused" in error.value.message
    assert error.value.exit_code == ExitCode.BLOCKED
    assert "mirrors.http_proxy" in (error.value.remedy or "")


def test_it_is_asked_once_a_run() -> None:
    facts = facts_of({"from": "fresh"}, HOST)
    count = len(addresses_of(facts, HOST, LATER_STEPS))
    host = answering("".join(f"{number}|\n" for number in range(1, count + 1)))
    repositories = Repositories(host, HOST, LATER_STEPS, lambda text: None)
    repositories.require(facts)
    repositories.require(facts)
    assert len(host.commands) == 1


def test_an_address_without_an_answer_is_not_taken_for_reachable() -> None:
    [missing] = probe(answering("garbage\n\n2|\n"), ["http://a.example/", "http://b.example/"])
    assert (missing.address, missing.why) == ("http://a.example/", "no answer")


CURL = """\
#!/bin/sh
echo "$@" >> "$LOG"
for last; do :; done
case $last in
  *slow*) sleep 0.5 ;;
  *bad*) echo "curl: (7) no way" >&2; exit 7 ;;
esac
"""


def really(tmp_path: Path, *addresses: str, proxy: str = "") -> list[str]:
    """The script, run by a real sh with a stand-in for curl; what it printed, sorted."""
    curl = tmp_path / "curl"
    curl.write_text(CURL)
    curl.chmod(0o755)
    script = PROBE.replace("/usr/lib/apt/apt-helper", "/nonexistent")
    done = subprocess.run(
        Command.sh(script, proxy, *addresses).words,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log")},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return sorted(done.stdout.splitlines())


def test_alternatives_and_reasons(tmp_path: Path) -> None:
    told = really(
        tmp_path, "http://bad/a http://good/a", "http://bad/b http://bad/c", "http://good/d"
    )
    assert told == ["1|", "2|curl: (7) no way ", "3|"]


def test_all_addresses_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    assert really(tmp_path, *["http://slow/"] * 8) == [f"{number}|" for number in range(1, 9)]
    assert time.monotonic() - started < 3


def test_the_proxy_is_passed_and_nothing_in_an_address_is_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    hostile = f"http://x/$(touch${{IFS}}{witness});`touch${{IFS}}{witness}`"
    assert really(tmp_path, hostile, proxy="http://p.example:1;id") == ["1|"]
    assert not witness.exists()
    log = (tmp_path / "log").read_text()
    assert "--proxy http://p.example:1;id" in log
    assert f"--url {hostile}" in log


class Installing(Package):
    """Says that it installs, as the steps do."""

    def check(self, facts: Facts, host: object) -> Outcome:
        outcome = super().check(facts, host)
        if not isinstance(outcome, Change):
            return outcome
        install = Command.of("install", self.name, sudo=True)
        return Change(outcome.reason, (Run(install, traces=(Trace("package", self.name),)),))


def provisioned(answer: str, *steps: Package, check: bool = False) -> tuple[HostReport, list[str]]:
    """The report, and which programs ran."""
    archive = "file sources.list\ndeb http://deb.example/debian trixie main\n.\n"
    host = ScriptedHost(
        sections={"archive": archive},
        answers={"sh": lambda command: Result(command, 0, answer.encode())},
    )
    transport = host.transport()
    job = Job(Host("gpu01", "gpu01"), transport)
    report = (check_only if check else provision)(job, steps, lambda *words: None)
    return report, [one.words[0] for one in transport.commands if PROBE in one.words] + [
        one.words[0] for one in transport.commands if one.words[0] == "install"
    ]


def test_a_run_asks_before_the_first_package_and_only_then() -> None:
    report, ran = provisioned("1|\n", Package("configured"), Installing("one"), Installing("two"))
    assert [step.status for step in report.steps] == ["changed"] * 3
    assert ran == ["sh", "install", "install", "install"]
    _, ran = provisioned("1|\n", Package("configured"))
    assert ran == ["install"]


def test_a_run_without_a_way_to_the_repositories_installs_nothing() -> None:
    report, ran = provisioned("1|no route to host\n", Installing("one"), Installing("two"))
    assert isinstance(report.error, BlockedError)
    assert "dists/trixie/InRelease: no route to host" in report.error.message
    assert report.exit_code == ExitCode.BLOCKED
    assert ran == ["sh"]


def test_a_plan_asks_too_unless_something_else_comes_first() -> None:
    report, ran = provisioned("1|no route to host\n", Installing("one"), check=True)
    assert report.exit_code == ExitCode.BLOCKED
    assert ran == ["sh"]
    for first in (Package("network"), Package("preflight", blocked="no room")):
        _, ran = provisioned("1|no route to host\n", first, Installing("one"), check=True)
        assert ran == []
