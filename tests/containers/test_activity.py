"""What removing a container would end."""

from __future__ import annotations

import pytest

from provisioner.containers.activity import Activity, read_top

IDLE = """PID                 COMMAND
4711                /sbin/docker-init -- /usr/local/bin/entrypoint.sh
4730                sshd: /usr/sbin/sshd -D -e -f /run/rigup/sshd_config [listener] 0 of 10-100
"""
BUSY = (
    IDLE
    + """4800                sshd: ana [priv]
4810                sshd: ana@pts/0
4811                -bash
4820                python train.py --epochs 3
4821                tensorboard --logdir /runs
4822                python -m a
4823                python -m b
"""
)


PRACTICE = """PID                 COMMAND
1                   /usr/bin/tini -- /bin/sh /usr/local/lib/rigup/entrypoint.sh sshd
9                   /bin/sh /usr/local/lib/rigup/entrypoint.sh sshd
10                  sshd: /usr/sbin/sshd -D -e -f /run/rigup/sshd_config [listener] 0 of 10-100
"""


@pytest.mark.parametrize("text", ["", "PID COMMAND\n", IDLE, PRACTICE])
def test_an_idle_container_is_not_busy(text: str) -> None:
    assert not read_top(text)


@pytest.mark.parametrize(
    "line", ["sh my-entrypoint.sh", "tini-train --epochs 3", "sh ./entrypoint", "bash train.sh"]
)
def test_a_program_with_a_name_like_the_containers_own_is_named(line: str) -> None:
    assert read_top(f"{IDLE}4820  {line}\n").programs == (line,)


def test_names_of_programs_reach_no_terminal_as_they_are() -> None:
    found = read_top(IDLE + "4820  python \x1b]52;c;cm0=\x07 \u202e\n")
    assert "\x1b" not in str(found)
    assert "\x07" not in str(found)
    assert "\u202e" not in str(found)


def test_sessions_and_programs_are_named() -> None:
    found = read_top(BUSY)
    assert found == Activity(
        1, ("python train.py --epochs 3", "tensorboard --logdir /runs", "python -m a"), 1
    )
    assert str(found).startswith("1 open SSH session(s); running: python train.py")
    assert str(found).endswith("and 1 more")


def test_a_programs_name_carries_no_escape_into_the_question() -> None:
    assert "\x1b" not in str(Activity(0, ("evil \x1b]52;c;eA==\x07\n[y]",)))
    assert "\n" not in str(Activity(0, ("evil\n[y]",)))
