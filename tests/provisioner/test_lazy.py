"""Starting a command imports no more than it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from provisioner.lazy import LazyModule

HEAVY = (
    "paramiko",
    "fabric",
    "textual",
    "provisioner.jobs",
    "provisioner.lab",
    "importlib.metadata",
)


def test_a_lazy_module_is_imported_by_the_first_use_of_a_name() -> None:
    script = (
        "import sys; from provisioner.lazy import LazyModule; colors = LazyModule('colorsys')\n"
        "assert 'colorsys' not in sys.modules\n"
        "assert colors.rgb_to_hsv(0, 0, 1)[2] == 1 and 'colorsys' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_name_that_is_not_there_is_an_error_as_ever() -> None:
    with pytest.raises(AttributeError):
        LazyModule("json").no_such_name  # noqa: B018


def test_the_program_starts_without_what_only_some_commands_need() -> None:
    script = f"import sys, tasks; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
