"""The proof that containers keep their GPUs through a reload of systemd, and that it can fail.

What a practice host can show: the reload is real and happens while the container runs, and a
container that has lost its devices then is noticed. What it cannot show: that real GPUs stay, since
systemd's device rules have nothing to say about simulated ones. So the loss is brought about by
hand: systemd runs every program in its generator directory at each daemon-reload, and this one
takes the device nodes out of running containers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e

GENERATOR = "/etc/systemd/system-generators/takes-gpus-away"
WHAT_IS_THERE = "docker ps -aq; docker images -q; ls -A /tmp | grep -v ^systemd-private- || true"
"""systemd makes and removes directories of its services there, whenever it starts them."""
TAKE_AWAY = r"""#!/bin/sh
touch /run/reloaded-by-rigup-test
for process in /proc/[0-9]*; do
  grep -qs ' /usr/bin/nvidia-smi ' "$process/mountinfo" && rm -f "$process"/root/dev/nvidia*
done
exit 0
"""


@pytest.fixture(params=["lab01", "lab02"])
def host(provisioned: Rigup, request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def takes_gpus_away(host: str, shell: Callable[[str], LabHostShell]) -> Iterator[LabHostShell]:
    on_host = shell(host)
    on_host.run(
        f"mkdir -p $(dirname {GENERATOR}); rm -f /run/reloaded-by-rigup-test\n"
        f"cat > {GENERATOR} <<'END'\n{TAKE_AWAY}END\nchmod 755 {GENERATOR}"
    )
    yield on_host
    on_host.run(f"rm -f {GENERATOR} /run/reloaded-by-rigup-test; systemctl daemon-reload")


def test_a_container_that_loses_its_gpus_is_noticed(
    provisioned: Rigup, host: str, takes_gpus_away: LabHostShell
) -> None:
    done = provisioned("provision", "--host", host, "--verify")
    assert done.code == 1, done.said
    assert "a container lost its GPUs after a systemctl daemon-reload" in done.said
    takes_gpus_away.run("test -e /run/reloaded-by-rigup-test")


def test_a_container_that_keeps_them_is_a_proof(
    provisioned: Rigup, host: str, shell: Callable[[str], LabHostShell]
) -> None:
    images = set(shell(host).run("docker images -q").split())
    before = set(shell(host).run(WHAT_IS_THERE).split())
    done = provisioned.ok("provision", "--host", host, "--verify")
    assert "= verified: the container still has them after systemctl daemon-reload" in done.out
    assert "- not proven: a CUDA matrix product (simulated GPUs)" in done.out
    after = set(shell(host).run(WHAT_IS_THERE).split())
    assert after - before == set(), "a proof leaves nothing behind"
    assert images <= after, "and takes no image of others"


def test_what_was_shown_is_remembered_until_something_changes(
    provisioned: Rigup, host: str, shell: Callable[[str], LabHostShell]
) -> None:
    provisioned.ok("provision", "--host", host)
    again = provisioned.ok("provision", "--host", host)
    assert "on this very state; --verify shows it again]" in again.out
    shell(host).run("systemctl restart docker")
    changed = provisioned.ok("provision", "--host", host)
    assert "on this very state" not in changed.out
