"""The proofs after provisioning: what counts as one, what fails, and what is known from before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from situations import facts_of

from inventory import Host
from provisioner.command import Command, Result
from provisioner.errors import StepFailed, SudoError
from provisioner.facts import PROOF, Facts
from provisioner.facts.proof import PATH, Proof, ProofFacts, ProofRecord
from provisioner.facts.toolkit import CdiSpec
from provisioner.transport.base import OutputSink
from provisioner.transport.fake import FakeTransport
from provisioner.verification.record import fingerprint
from provisioner.verify import verify

LISTED = "GPU {index}: NVIDIA H100 80GB HBM3 (UUID: {uuid})\n"
NVML_LOST = "Failed to initialize NVML: Unknown Error\nnvidia-smi ended with status 255\n"
NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def facts(**changed: dict[str, Any]) -> Facts:
    return facts_of({"from": "converged", "facts": changed}, Host("gpu01", "gpu01"))


def knowing(known: Facts, **proof: Any) -> Facts:
    return Facts({**dict(known.items()), "proof": ProofFacts(**proof)})


def listing(*uuids: str) -> str:
    return "".join(LISTED.format(index=i, uuid=uuid) for i, uuid in enumerate(uuids))


class ProvingHost(FakeTransport):
    """A host whose container prints these things. ``root`` False: no sudo."""

    def __init__(
        self,
        before: str = listing("GPU-1111"),
        after: str | None = None,
        products: str = "right GPU-1111\n",
        *,
        exit_code: int = 0,
        root: bool = True,
    ) -> None:
        super().__init__(host_name="gpu01")
        self.before, self.products = before, products
        self.after = before if after is None else after
        self.exit_code, self.root = exit_code, root
        self.record = b""

    def run(self, command: Command, *, on_output: OutputSink | None = None) -> Result:
        self.commands.append(command)
        if command.sudo and not self.root:
            raise SudoError("sudo needs a password", host=self.host_name)
        if PATH in command.words:
            self.record = command.stdin or b""
            return Result(command, 0)
        if self.exit_code:
            return Result(command, self.exit_code, b"", b"could not select device driver")
        return Result(command, 0, self._printed(*command.words[4:7]).encode())

    def _printed(self, gpus: str, reload: str, product: str) -> str:
        reloaded = "== reloaded\n" if reload == "1" else ""
        before, after = (self.before, self.after) if gpus == "1" else ("", "")
        products = self.products if product == "1" else ""
        return f"{before}== listed\n{reloaded}{after}== listed again\n{products}== done\n"


def proven(proofs: tuple[Proof, ...]) -> dict[str, bool]:
    return {proof.text: proof.proven for proof in proofs}


def test_a_real_gpu_is_proven_in_every_respect() -> None:
    host = ProvingHost()
    assert proven(verify(host, facts())) == {
        "driver module 580.173.02 is loaded, nvidia-smi answers": True,
        "a container sees exactly the host's 1 GPU(s)": True,
        "the container still has them after systemctl daemon-reload": True,
        "a CUDA matrix product gives the right numbers on 1 CUDA device(s)": True,
    }
    run, record = host.commands
    assert run.sudo
    assert run.stdin is not None
    assert b".target sm_50" in run.stdin
    assert PATH in record.words


def test_practice_gpus_are_marked_and_never_multiply() -> None:
    host = ProvingHost(listing("GPU-5555"))
    proofs = verify(host, facts(gpu={"gpus": ["practice"]}))
    assert all(proof.simulated for proof in proofs)
    assert [proof.text for proof in proofs if not proof.proven] == [
        "a CUDA matrix product (simulated GPUs)"
    ]
    assert host.commands[0].stdin is None
    assert host.record, "what practice GPUs cannot show is not tried again"


def test_module_and_user_space_of_one_version() -> None:
    proofs = verify(ProvingHost(), facts(gpu={"library_version": "580.173.02"}))
    assert proofs[0].text == "driver module 580.173.02 equals user space, nvidia-smi answers"
    with pytest.raises(StepFailed, match=r"kernel module 580.173.02, user space 580.200.01"):
        verify(ProvingHost(), facts(gpu={"library_version": "580.200.01"}))


@pytest.mark.parametrize(
    "seen", [(), ("GPU-9999",), ("GPU-1111", "GPU-9999")], ids=["none", "another", "one more"]
)
def test_other_gpus_are_a_failure_that_names_both(seen: tuple[str, ...]) -> None:
    host = ProvingHost(listing(*seen))
    with pytest.raises(StepFailed, match=r"a container sees GPUs.*GPU-1111") as raised:
        verify(host, facts())
    assert all(uuid in raised.value.message for uuid in seen)
    assert (raised.value.host, bool(raised.value.remedy)) == ("gpu01", True)
    assert not host.record, "a failure is not remembered"


def test_parts_of_a_split_gpu_are_no_gpus_of_their_own() -> None:
    split = listing("GPU-1111") + "  MIG 1g.10gb     Device  0: (UUID: MIG-2222)\n"
    proofs = verify(ProvingHost(split, products="right GPU-7777\n"), facts())
    assert all(proof.proven for proof in proofs)


def test_gpus_that_a_reload_of_systemd_takes_away() -> None:
    host = ProvingHost(after=NVML_LOST)
    with pytest.raises(StepFailed, match="lost its GPUs after a systemctl daemon-reload") as raised:
        verify(host, facts())
    assert "Failed to initialize NVML: Unknown Error" in raised.value.message
    assert "CDI" in str(raised.value.remedy)


@pytest.mark.parametrize(
    ("products", "told"),
    [
        ("wrong GPU-1111 0 1 7.0 9.0\n", "wrong GPU-1111 0 1 7.0 9.0"),
        ("error cuInit 999\n", "error cuInit 999"),
        ("Traceback (most recent call last):\n", "Traceback"),
        ("right GPU-9999\n", "no answer of GPU-1111"),
        ("", "no answer of GPU-1111"),
    ],
)
def test_a_matrix_product_that_is_not_right(products: str, told: str) -> None:
    with pytest.raises(StepFailed, match="a CUDA matrix product failed") as raised:
        verify(ProvingHost(products=products), facts())
    assert told in raised.value.message


@pytest.mark.parametrize(
    ("products", "why"),
    [("busy GPU-1111 46\n", "in use by others"), ("no python3\n", "no python3 on the host")],
)
def test_a_matrix_product_that_could_not_be_tried_is_not_claimed(products: str, why: str) -> None:
    host = ProvingHost(products=products)
    *others, last = verify(host, facts())
    assert all(proof.proven for proof in others)
    assert not last.proven
    assert why in last.text
    assert not host.record, "the next run tries again"


def test_a_host_without_gpus_still_runs_a_container() -> None:
    host = ProvingHost()
    [proof] = verify(host, facts(gpu={"pci": [], "gpus": []}))
    assert proof == Proof("Docker 20.10.24 runs a container (no GPU on this host)")
    assert host.commands[0].words[4:7] == ("0", "0", "0")


def test_a_container_that_does_not_start_shows_why() -> None:
    with pytest.raises(StepFailed, match=r"status 125.: could not select device driver"):
        verify(ProvingHost(exit_code=125), facts())


def test_without_root_what_needs_it_is_not_claimed() -> None:
    host = ProvingHost(root=False)
    proofs = verify(host, facts())
    assert [proof.text for proof in proofs if not proof.proven] == [
        "GPUs after systemctl daemon-reload (needs root)"
    ]
    assert not host.record


def test_what_was_proven_on_this_very_state_is_not_proven_again() -> None:
    first, known = ProvingHost(), facts()
    verify(first, known, now=lambda: NOON)
    record = ProofRecord.from_json(first.record.decode())
    later = ProvingHost()
    proofs = verify(later, knowing(known, record=record))
    assert [proof.text for proof in proofs] == [proof.text for proof in record.proofs]
    assert {proof.recorded_at for proof in proofs} == {"2026-11-21T12:00:00+00:00"}
    assert later.commands == []


def test_force_proves_again() -> None:
    known = facts()
    record = ProofRecord.of(fingerprint(known), [Proof("of old")], NOON.isoformat())
    host = ProvingHost()
    proofs = verify(host, knowing(known, record=record), force=True)
    assert all(proof.recorded_at is None for proof in proofs)
    assert host.record


SPEC = CdiSpec("/var/run/cdi/nvidia.yaml", "other")
CHANGES: dict[str, dict[str, Any]] = {
    "a reboot": {"os": {"boot_id": "another"}},
    "another module": {"gpu": {"module_version": "595.1"}},
    "another library": {"gpu": {"library_version": "595.1"}},
    "another GPU": {"gpu": {"gpus": ["practice"]}},
    "another engine": {"docker": {"server_version": "29.7.2"}},
    "another configuration": {"docker": {"daemon_json": {"live-restore": True}}},
    "another cgroup driver": {"docker": {"cgroup_driver": "systemd"}},
    "another toolkit": {"toolkit": {"version": "1.21.0"}},
    "another configuration of the toolkit": {"toolkit": {"config_digest": "x"}},
    "one of its packages": {"packages": {"versions": {"libnvidia-container1": "1.2.3"}}},
    "a CDI specification": {"toolkit": {"cdi": [SPEC]}},
    "a CDI specification's content": {"toolkit": {"cdi": [replace(SPEC, digest="another")]}},
    "a restart of Docker": {"proof": {"engine_started": "1763708000 12 345"}},
    "another runc": {"proof": {"runtime_files": "/usr/sbin/runc 9439640 1763708001"}},
    "another systemd": {"proof": {"runtime_files": "/lib/systemd/systemd 100 1763708001"}},
    "MIG switched on": {"proof": {"mig": "GPU-1111, Enabled"}},
    "another MIG instance": {"proof": {"mig": "GPU-1111, Enabled\nMIG 1g.10gb Device 0"}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_that_matters_changes_the_fingerprint(name: str) -> None:
    before = {fingerprint(facts(**CHANGES[other])) for other in CHANGES if other != name}
    assert fingerprint(facts(**CHANGES[name])) not in before | {fingerprint(facts())}


def test_a_record_of_another_state_is_no_proof() -> None:
    record = ProofRecord.of("ab12", [Proof("of another state")], NOON.isoformat())
    host = ProvingHost()
    proofs = verify(host, knowing(facts(), record=record))
    assert all(proof.recorded_at is None for proof in proofs)


def test_facts_that_cannot_be_told_are_no_state_to_remember() -> None:
    case = {"from": "converged", "unreadable": {"proof": "no answer"}}
    host = ProvingHost()
    assert verify(host, facts_of(case, Host("gpu01", "gpu01")))
    assert not host.record


def test_a_record_says_what_it_was_made_of() -> None:
    record = ProofRecord.of("ab12", [Proof("x", simulated=True), Proof("y", proven=False)], "t")
    assert ProofRecord.from_json(record.to_json()) == record
    assert PROOF.name == "proof"


def test_a_lost_gpu_is_no_success_whatever_the_others_show() -> None:
    host = ProvingHost()
    with pytest.raises(StepFailed, match=r"lists 1 GPU\(s\).*0000:2a:00\.0") as raised:
        verify(host, facts(gpu={"pci": ["h100", "lost"]}))
    assert "power the machine off and on" in str(raised.value.remedy)
    assert host.commands == []


def test_a_remembered_proof_does_not_hide_a_lost_gpu() -> None:
    before, after = facts(), facts(gpu={"pci": ["h100", "lost"]})
    record = ProofRecord.of(fingerprint(after), verify(ProvingHost(), before), "2026-11-21")
    with pytest.raises(StepFailed, match="do not answer"):
        verify(ProvingHost(), knowing(after, record=record))


def known_gpus(host: ProvingHost) -> ProofRecord:
    return ProofRecord.from_json(host.record.decode())


def test_a_card_that_is_on_no_bus_after_a_reboot_is_missed() -> None:
    before = facts(gpu={"pci": ["h100", "lost"], "gpus": ["h100", "h100 without persistence"]})
    host = ProvingHost(listing("GPU-1111", "GPU-2222"), products="right GPU-1111\nright GPU-2222\n")
    verify(host, before)
    assert known_gpus(host).gpus == ("GPU-1111", "GPU-2222")
    for gpu in ({"pci": ["h100"], "gpus": ["h100"]}, {"pci": [], "gpus": [], "smi_error": "none"}):
        after = knowing(facts(gpu=gpu), record=known_gpus(host))
        with pytest.raises(StepFailed, match=r"no longer on the bus: .*GPU-2222") as raised:
            verify(ProvingHost(), after)
        assert "--verify" in str(raised.value.remedy)


def test_a_card_that_was_taken_out_on_purpose_is_forgotten_by_verify() -> None:
    record = ProofRecord.of("other", [Proof("x")], "2026-11-21", ["GPU-1111", "GPU-2222"])
    host = ProvingHost()
    assert verify(host, knowing(facts(), record=record), force=True)
    assert known_gpus(host).gpus == ("GPU-1111",)


@pytest.mark.parametrize("gpus", [(), ("GPU-1111",), ("GPU-replaced",)])
def test_no_card_is_missed_where_as_many_are_there(gpus: tuple[str, ...]) -> None:
    record = ProofRecord.of("other", [Proof("x")], "2026-11-21", gpus)
    assert verify(ProvingHost(), knowing(facts(), record=record))


def test_a_record_of_an_older_version_knows_no_gpus() -> None:
    text = '{"fingerprint": "f", "proofs": [{"text": "t", "simulated": false, "proven": true, '
    old = ProofRecord.from_json(text + '"recorded_at": "2026-11-21"}]}')
    assert old.gpus == ()


@pytest.mark.parametrize("gpus", ['"GPU-1"', '["\\u001b[2J"]', "[1]", '["GPU-1\\n"]', "{}"])
def test_a_record_of_odd_gpus_is_no_record(gpus: str) -> None:
    text = '{"fingerprint": "f", "proofs": [{"text": "t", "simulated": false, "proven": true, '
    with pytest.raises(ValueError, match="no record"):
        ProofRecord.from_json(text + f'"recorded_at": "2026-11-21"}}], "gpus": {gpus}}}')
