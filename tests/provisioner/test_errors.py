"""The error hierarchy: exit codes, remedies, and the tree in its docstring."""

from __future__ import annotations

import inspect
import re

import pytest

from provisioner import errors
from provisioner.command import Command, Result
from provisioner.errors import CommandFailed, ExitCode, RigupError

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, RigupError) and kind is not RigupError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_tree_under_its_parent(kind: type[RigupError]) -> None:
    tree = re.findall(r"^( *[│├└─ ]*)(\w+)(?: {2,}.*)?$", errors.__doc__ or "", re.MULTILINE)
    names = [name for _, name in tree]
    depth = {name: len(indent) for indent, name in tree}
    assert kind.__name__ in names
    above = names[: names.index(kind.__name__)]
    parent = next(n for n in reversed(above) if depth[n] < depth[kind.__name__])
    assert parent == kind.__bases__[0].__name__


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.BlockedError, 3),
        (errors.HostKeyChanged, 3),
        (errors.RebootRequired, 3),
        (errors.ConnectError, 1),
        (errors.StepFailed, 1),
        (errors.AgentError, 1),
    ],
)
def test_exit_codes(kind: type[RigupError], code: int) -> None:
    assert kind.exit_code == code
    assert isinstance(kind.exit_code, ExitCode)


def test_an_error_says_where_what_and_what_to_try() -> None:
    error = RigupError("it broke", host="gpu01", remedy="mend it")
    assert str(error) == "gpu01: it broke\n  try: mend it"
    assert str(RigupError("it broke")) == "it broke"


def test_a_failed_command_carries_its_result() -> None:
    result = Result(Command.of("false"), 1, b"", b"why")
    error = CommandFailed(result, host="gpu01")
    assert error.result is result
    assert "`false` exited with 1" in str(error)
    assert "why" in str(error)
