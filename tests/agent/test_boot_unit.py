"""The unit that starts queued jobs after a boot."""

from __future__ import annotations

import pytest

from provisioner.agent.boot_unit import boot_unit


def test_paths_are_those_that_enabling_would_make():
    unit = boot_unit()
    assert str(unit.path) == ".config/systemd/user/rigup-agent.service"
    assert str(unit.link) == ".config/systemd/user/default.target.wants/rigup-agent.service"
    assert unit.link.parent / unit.target == unit.link.parent / "../rigup-agent.service"
    assert "WantedBy=default.target" in unit.content


def test_jobs_outlive_the_unit():
    assert "KillMode=process\n" in boot_unit().content
    assert "OOMPolicy=continue\n" in boot_unit().content


@pytest.mark.parametrize(
    ("state_dir", "written"),
    [
        (".rigup", "%h/.rigup"),
        ("~/.rigup", "%h/.rigup"),
        ("/scratch/me/", "/scratch/me"),
        ("a dir/50%", "%h/a dir/50%%"),
        ('a$b"c', '%h/a$$b\\"c'),
    ],
)
def test_every_state_directory_can_be_written(state_dir, written):
    unit = boot_unit(state_dir)
    assert f'"{written}/agent/current.pyz" "{written}"\n' in unit.content
    assert (unit == boot_unit()) is (written == "%h/.rigup")
