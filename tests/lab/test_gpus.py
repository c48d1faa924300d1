"""The simulated GPUs' configuration."""

from __future__ import annotations

import re

import pytest

from provisioner.errors import UsageError
from provisioner.lab.gpus import MODELS, find_model, render_config


def gpu_lines(text: str) -> list[list[str]]:
    return [line.split()[1:] for line in text.splitlines() if line.startswith("gpu ")]


def test_every_gpu_has_its_own_uuid_and_bus_address() -> None:
    rows = gpu_lines(render_config("lab01", find_model("h100"), 8))
    assert [row[0] for row in rows] == [str(index) for index in range(8)]
    assert len({row[1] for row in rows}) == 8
    assert len({row[2] for row in rows}) == 8
    assert all(re.fullmatch(r"GPU-[0-9a-f-]{36}", row[1]) for row in rows)
    assert all(re.fullmatch(r"0000:[0-9a-f]{2}:00\.0", row[2]) for row in rows)


def test_uuids_stay_for_a_host_and_differ_between_hosts() -> None:
    model = find_model("h100")
    assert render_config("a.lab01", model, 2) == render_config("a.lab01", model, 2)
    assert gpu_lines(render_config("a", model, 1)) != gpu_lines(render_config("b", model, 1))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_says_that_it_is_simulated(name: str) -> None:
    assert re.search(r"^name .* \(SIMULATED\)$", render_config("x", MODELS[name], 1), re.M)


def test_an_unknown_model_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="h200"):
        find_model("h200")
