"""The proof after provisioning: a container sees exactly the host's GPUs."""

from __future__ import annotations

import pytest
from situations import facts_of

from inventory import Host
from provisioner.command import Command, Result
from provisioner.errors import CommandFailed, StepFailed
from provisioner.facts import Facts
from provisioner.transport.fake import FakeTransport
from provisioner.verify import BUILD_IMAGE, verify

LISTED = "GPU {index}: NVIDIA H100 80GB HBM3 (UUID: {uuid})\n"


def facts(**gpu: object) -> Facts:
    case = {"from": "converged", "facts": {"gpu": gpu}}
    return facts_of(case, Host("gpu01", "gpu01"))


def host(*uuids: str, exit_code: int = 0) -> FakeTransport:
    """A host whose containers list these GPUs."""
    listed = "".join(LISTED.format(index=i, uuid=uuid) for i, uuid in enumerate(uuids))

    def answer(command: Command) -> Result:
        if command.words[:2] == ("docker", "run"):
            return Result(command, exit_code, listed.encode(), b"could not select device driver")
        return Result(command, 0)

    return FakeTransport(answer, host_name="gpu01")


def test_equal_sets_are_a_proof() -> None:
    transport = host("GPU-1111")
    proofs = verify(transport, facts())
    assert "exactly the host's 1 GPU(s)" in proofs[-1].text
    assert "580.173.02" in proofs[0].text
    assert not any(proof.simulated for proof in proofs)
    build, run = transport.commands
    assert BUILD_IMAGE in build.words
    assert build.sudo
    assert run.sudo
    assert " ".join(run.words).startswith("docker run --rm --network none --gpus all")


@pytest.mark.parametrize(
    "seen", [(), ("GPU-9999",), ("GPU-1111", "GPU-9999")], ids=["none", "another", "one more"]
)
def test_other_sets_are_a_failure_that_names_both(seen: tuple[str, ...]) -> None:
    with pytest.raises(StepFailed, match="GPU-1111") as raised:
        verify(host(*seen), facts())
    assert all(uuid in raised.value.message for uuid in seen)
    assert raised.value.host == "gpu01"
    assert raised.value.remedy


def test_practice_gpus_are_marked_as_such_in_every_proof() -> None:
    proofs = verify(host("GPU-5555"), facts(gpus=["practice"]))
    assert proofs
    assert all(proof.simulated for proof in proofs)


def test_a_host_without_gpus_still_runs_a_container() -> None:
    transport = host()
    [proof] = verify(transport, facts(pci=[], gpus=[]))
    assert "no GPU on this host" in proof.text
    assert "--gpus" not in transport.commands[-1].words


def test_a_container_that_does_not_start_shows_why() -> None:
    with pytest.raises(CommandFailed, match="could not select device driver"):
        verify(host(exit_code=125), facts())
