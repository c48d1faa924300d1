"""Headers of the running kernel, or the newest kernel with its own; never a package by halves."""

from __future__ import annotations

import pytest
from situations import facts_of, host_of

from provisioner.command import Command, Result
from provisioner.errors import BlockedError, CommandFailed, ExitCode
from provisioner.facts import KERNEL
from provisioner.steps.base import Change
from provisioner.steps.kernel import Headers, Kernel
from provisioner.transport.fake import FakeTransport

LOST = "linux-headers-6.1.0-41-amd64"


def headers(metapackages: list[str]) -> Headers:
    case = {"from": "fresh", "facts": {"kernel": {"headers_for": [], "metapackages": metapackages}}}
    outcome = Kernel().check(facts_of(case, host_of(case)), host_of(case))
    assert isinstance(outcome, Change)
    [action] = outcome.actions
    assert isinstance(action, Headers)
    return action


def archive_without(*packages: str) -> FakeTransport:
    """apt-get ends with 100 and its message where a package is not offered."""

    def answer(command: Command) -> Result:
        lost = [package for package in packages if package in command.words]
        if lost:
            told = f"E: Unable to locate package {lost[0]}"
            return Result(command, 100, b"", told.encode())
        return Result(command, 0)

    return FakeTransport(answer, host_name="gpu01")


def installed(host: FakeTransport) -> list[tuple[str, ...]]:
    return [
        command.words[command.words.index("install") + 2 :]
        for command in host.commands
        if "install" in command.words
    ]


def test_the_exact_headers_come_with_those_of_later_kernels() -> None:
    host = archive_without()
    headers(["linux-image-amd64"]).apply(host)
    assert installed(host) == [(LOST, "linux-headers-amd64")]


def test_an_archive_without_them_gives_the_newest_kernel_and_its_headers() -> None:
    host = archive_without(LOST)
    headers(["linux-image-cloud-amd64"]).apply(host)
    assert installed(host)[-1] == ("linux-image-cloud-amd64", "linux-headers-cloud-amd64")


def test_a_kernel_that_no_package_source_has_waits_for_a_person() -> None:
    with pytest.raises(BlockedError, match="Unable to locate package") as raised:
        headers([]).apply(archive_without(LOST))
    assert raised.value.exit_code is ExitCode.BLOCKED
    assert raised.value.host == "gpu01"
    assert "reboot" in str(raised.value.remedy)


def test_an_archive_that_has_neither_is_a_failure_with_its_message() -> None:
    with pytest.raises(CommandFailed, match="linux-image-amd64"):
        headers(["linux-image-amd64"]).apply(archive_without(LOST, "linux-image-amd64"))


def test_no_kernel_is_ever_recorded_for_removal() -> None:
    names = {trace.name for trace in headers(["linux-image-amd64"]).traces}
    assert names == {LOST, "linux-headers-amd64"}


def test_the_kernel_that_the_next_boot_brings() -> None:
    def next_of(**fields: object) -> str:
        case = {"from": "fresh", "facts": {"kernel": fields}}
        return facts_of(case, host_of(case))[KERNEL].next

    assert next_of(newest="6.1.0-42-amd64") == "6.1.0-42-amd64"
    assert next_of(newest="6.1.0-42-amd64", passed_over=True) == "6.1.0-41-amd64"
    assert next_of(newest="6.1.0-9-amd64") == "6.1.0-41-amd64"
    assert next_of(newest=None) == "6.1.0-41-amd64"
