"""One exit code for many hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from provisioner.errors import ExitCode

if TYPE_CHECKING:
    from provisioner.jobs import PerHost


def exit_code_of(results: Sequence[PerHost[Any]]) -> ExitCode:
    return worst_code([error.exit_code for _, _, error in results if error is not None])


def worst_code(codes: Sequence[ExitCode]) -> ExitCode:
    """A failure outweighs a wait, a person's ctrl-c everything: 130 over 1 over 3 over 0."""
    for code in (ExitCode.INTERRUPTED, ExitCode.FAILED, ExitCode.USAGE, ExitCode.BLOCKED):
        if code in codes:
            return code
    return ExitCode.DONE
