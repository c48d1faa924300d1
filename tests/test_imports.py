"""Who may import whom. The table below is the rule; ARCHITECTURE.md gives the reasons."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Rule:
    """What the modules under ``scope`` may import beside the standard library.

    ``ours`` are prefixes of our own modules, ``others`` are top-level names of third parties.
    """

    scope: str
    ours: tuple[str, ...]
    others: tuple[str, ...] = ()


_FOR_PROVISIONER = ("provisioner", "inventory", "remote_agent.protocol")

RULES = (
    Rule("remote_agent.protocol", ("remote_agent.protocol",)),
    Rule("remote_agent", ("remote_agent",), ("pynvml",)),
    Rule("inventory", ("inventory",), ("yaml",)),
    *(
        Rule(f"provisioner.transport.{module}", _FOR_PROVISIONER, ("fabric", "paramiko"))
        for module in ("ssh", "ssh_auth", "ssh_client", "ssh_errors", "ssh_exchange")
    ),
    Rule("provisioner.openpgp_signature", _FOR_PROVISIONER, ("cryptography",)),
    Rule("provisioner.code_selection", _FOR_PROVISIONER, ("pathspec",)),
    Rule("provisioner.demo", _FOR_PROVISIONER, ("asyncssh", "yaml")),
    Rule("provisioner", _FOR_PROVISIONER, ("yaml",)),
    Rule(
        "tui",
        (
            "tui",
            "inventory",
            "provisioner.agent.client",
            "provisioner.jobs",
            "provisioner.errors",
            "remote_agent.protocol",
        ),
        ("textual", "rich", "cairosvg"),
    ),
    Rule("tasks", ("inventory", "provisioner", "remote_agent", "tui"), ("invoke",)),
)
"""The first rule whose scope holds a module is that module's rule."""

OUR_PACKAGES = ("inventory", "provisioner", "remote_agent", "tui")


def violations(sources: Mapping[str, str]) -> list[str]:
    """Each forbidden import as ``module:line imports target``; ``sources``: module name to text.

    A package's ``__init__`` goes by ``package.__init__``.
    """
    known = {name.removesuffix(".__init__") for name in sources}
    return [
        f"{module}:{line} imports {target}"
        for module, text in sources.items()
        for line, target in _imports(module, ast.parse(text), known)
        if not _allowed(module, target)
    ]


def _allowed(module: str, target: str) -> bool:
    if target.partition(".")[0] in sys.stdlib_module_names:
        return True
    rule = next(rule for rule in RULES if _within(module, rule.scope))
    return any(_within(target, prefix) for prefix in rule.ours + rule.others)


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _imports(module: str, tree: ast.AST, known: set[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            yield from ((node.lineno, _target(base, alias.name, known)) for alias in node.names)
        elif isinstance(node, ast.Call) and _imports_by_name(node):
            yield from ((node.lineno, name) for name in _first_text(node))


def _base(module: str, node: ast.ImportFrom) -> str:
    """The module that a ``from … import`` names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    package = module.split(".")[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _target(base: str, name: str, known: set[str]) -> str:
    return f"{base}.{name}" if f"{base}.{name}" in known else base


def _imports_by_name(node: ast.Call) -> bool:
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in ("import_module", "__import__")


def _first_text(node: ast.Call) -> Iterator[str]:
    for argument in node.args[:1]:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def _our_sources() -> dict[str, str]:
    files = [ROOT / "tasks.py"]
    for package in OUR_PACKAGES:
        files.extend(sorted((ROOT / package).rglob("*.py")))
    return {_module_name(file): file.read_text(encoding="utf-8") for file in files}


def _module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def test_every_import_is_allowed() -> None:
    sources = _our_sources()
    assert {name.partition(".")[0] for name in sources} == {*OUR_PACKAGES, "tasks"}
    assert violations(sources) == []


@pytest.mark.parametrize(
    ("module", "source", "target"),
    [
        ("remote_agent.protocol.job", "import remote_agent.store", "remote_agent.store"),
        ("remote_agent.protocol.job", "from .. import store", "remote_agent.store"),
        ("remote_agent.protocol.job", "import pynvml", "pynvml"),
        ("remote_agent.store", "import yaml", "yaml"),
        ("remote_agent.store", "import psutil", "psutil"),
        ("remote_agent.store", "from provisioner import errors", "provisioner.errors"),
        ("inventory.loader", "from provisioner.errors import RigupError", "provisioner.errors"),
        ("inventory.loader", "def f():\n    import tui", "tui"),
        ("inventory.loader", "if TYPE_CHECKING:\n    import paramiko", "paramiko"),
        ("provisioner.runner", "import paramiko.client", "paramiko.client"),
        ("provisioner.transport.local", "from fabric import Connection", "fabric"),
        ("provisioner.transport.sshkeys", "import paramiko", "paramiko"),
        ("provisioner.transport.ssh_other", "import paramiko", "paramiko"),
        ("provisioner.runner", "from remote_agent import store", "remote_agent.store"),
        ("provisioner.runner", "import remote_agent", "remote_agent"),
        ("provisioner.runner", "from textual.app import App", "textual.app"),
        ("provisioner.runner", "import tui.app", "tui.app"),
        ("provisioner.runner", "import tasks", "tasks"),
        ("provisioner.transport.ssh", "import textual", "textual"),
        ("provisioner.steps.__init__", "from .. import tui_bridge, x\nimport tui", "tui"),
        ("provisioner.runner", "importlib.import_module('textual')", "textual"),
        ("provisioner.runner", "__import__('tasks')", "tasks"),
        ("provisioner.transport.ssh", "import asyncssh", "asyncssh"),
        ("provisioner.demo.server", "import paramiko", "paramiko"),
        ("tui.app", "from provisioner import transport", "provisioner.transport"),
        ("tui.app", "from provisioner.steps.docker import Docker", "provisioner.steps.docker"),
        ("tui.app", "import provisioner.facts.gpu", "provisioner.facts.gpu"),
        ("tui.app", "import provisioner.jobs_internal", "provisioner.jobs_internal"),
        ("tui.app", "from remote_agent.store import Store", "remote_agent.store"),
        ("tui.app", "import tasks", "tasks"),
        ("tasks", "import paramiko", "paramiko"),
        ("tasks", "import textual", "textual"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str, target: str) -> None:
    tree = {
        "remote_agent.store": "",
        "provisioner.errors": "",
        "provisioner.transport.__init__": "",
        module: source,
    }
    line = source.count("\n") + 1
    assert violations(tree) == [f"{module}:{line} imports {target}"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("remote_agent.protocol.job", "from remote_agent.protocol.values import Value"),
        ("remote_agent.protocol.__init__", "from . import job"),
        ("remote_agent.metrics.nvml", "import pynvml, json, os.path"),
        ("remote_agent.store", "from remote_agent.protocol import job"),
        ("inventory.nodes", "import yaml\nfrom .errors import InventoryError"),
        ("provisioner.transport.ssh", "import fabric\nfrom paramiko.client import SSHClient"),
        ("provisioner.jobs", "from remote_agent.protocol.job import JobSpec\nimport inventory"),
        ("tui.app", "from provisioner.agent import client\nfrom textual.app import App"),
        ("tui.app", "from provisioner.jobs import Jobs\nimport inventory.model"),
        ("tasks", "import tui.app, provisioner.runner, inventory, invoke"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert violations({"provisioner.agent.client": "", module: source}) == []
