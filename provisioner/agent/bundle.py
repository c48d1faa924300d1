"""The agent as one file: a zip archive that Python runs, with the same bytes every time.

The standard library's :mod:`zipapp` stamps file times into the archive; here every entry has a
fixed date and the order is sorted, so the archive's sha256 names its content. The agent's own
modules are stored uncompressed, because every start reads them; pynvml, ten times as large and
read only where somebody watches GPUs, is compressed.
"""

from __future__ import annotations

import hashlib
import io
import sysconfig
import threading
import zipfile
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from provisioner.errors import AgentError

FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that the zip format can say."""
FILE_MODE = 0o100644 << 16
PACKAGE = "remote_agent"
NVML_MODULE = "pynvml"

MAIN = b"""\
import sys

if sys.version_info < (3, 8):
    found = "Python " + sys.version.split()[0]
    sys.stdout.write('{"type":"unavailable","reason":"no-python","detail":"%s"}\\n' % found)
    sys.exit(44)

from remote_agent.cli import main

sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Bundle:
    """``digest`` is the sha256 of ``data`` and the name the file gets on hosts."""

    data: bytes = field(repr=False)
    digest: str


_building = threading.Lock()


def build_bundle() -> Bundle:
    """Build the archive once per process, also where many threads ask at the same time.

    Raises AgentError where the sources are missing.
    """
    with _building:
        return _build()


@cache
def _build() -> Bundle:
    data = archive({"__main__.py": MAIN, **_agent_sources(), **_nvml_source()})
    return Bundle(data, hashlib.sha256(data).hexdigest())


def archive(files: dict[str, bytes]) -> bytes:
    """A zip archive of ``files`` (name -> content) that depends on nothing else."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, FIXED_DATE)
            entry.create_system = 3  # Unix, also when built elsewhere
            entry.external_attr = FILE_MODE
            large = name == f"{NVML_MODULE}.py"
            entry.compress_type = zipfile.ZIP_DEFLATED if large else zipfile.ZIP_STORED
            target.writestr(entry, files[name], compresslevel=9)
    return buffer.getvalue()


def _agent_sources() -> dict[str, bytes]:
    package = _origin(PACKAGE).parent
    return {
        f"{PACKAGE}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*.py")
    }


def _nvml_source() -> dict[str, bytes]:
    return {f"{NVML_MODULE}.py": _origin(NVML_MODULE).read_bytes()}


def _origin(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise AgentError(
            f"cannot build the agent: the Python module {module} is not installed",
            remedy=f"install rigup again, with its dependencies, into "
            f"{sysconfig.get_paths()['purelib']}",
        )
    return Path(spec.origin)
