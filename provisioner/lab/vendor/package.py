"""One stand-in package, as the tree from which ``dpkg-deb`` builds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DRIVER_REPOSITORY = "cuda"
OVERLAY_REPOSITORY = "cuda-overlay"
"""The kernel packages for hosts that share a kernel: the module is only shown, never loaded."""
DKMS_REPOSITORY = "cuda-dkms"
"""The kernel packages for guests with a kernel of their own: DKMS builds the module there."""
TOOLKIT_REPOSITORY = "toolkit"
LAB_DIR = "usr/lib/rigup-lab"
UNIT_DIR = "lib/systemd/system"

Sources = Mapping[str, bytes]
"""The files under ``provisioner/lab/files/vendor``, by path."""


@dataclass(frozen=True)
class Compiled:
    """A file that the builder makes: ``artifact`` is its path among the compiler's outputs."""

    artifact: str
    mode: str


@dataclass(frozen=True)
class Package:
    """``files`` and ``compiled`` by path in the package; ``scripts`` by maintainer script name."""

    name: str
    version: str
    repository: str
    summary: str
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    compiled: Mapping[str, Compiled] = field(default_factory=dict)
    scripts: Mapping[str, bytes] = field(default_factory=dict)

    def control(self, architecture: str) -> str:
        """The package's control file (Debian policy, chapter 5)."""
        relations = {
            "Depends": self.depends,
            "Provides": self.provides,
            "Conflicts": self.conflicts,
            "Replaces": self.conflicts,
        }
        lines = [
            f"Package: {self.name}",
            f"Version: {self.version}",
            f"Architecture: {architecture}",
            "Maintainer: rigup practice hosts <rigup-lab@localhost>",
            *(f"{key}: {', '.join(values)}" for key, values in relations.items() if values),
            "Section: misc",
            "Priority: optional",
            f"Description: {self.summary} (SIMULATED)",
            " Stand-in for a rigup practice host; not NVIDIA's software.",
        ]
        return "\n".join(lines) + "\n"

    def tree(self, architecture: str, guard: bytes) -> dict[str, bytes]:
        """Control files, contents and what to compile. ``guard`` is the preinst of every package:
        it refuses machines that are no practice hosts."""
        tree = {f"DEBIAN/{name}": data for name, data in self.scripts.items()}
        tree["DEBIAN/control"] = self.control(architecture).encode()
        tree["DEBIAN/preinst"] = guard
        settings = [f"/{path}\n" for path in sorted(self.files) if path.startswith("etc/")]
        if settings:
            tree["DEBIAN/conffiles"] = "".join(settings).encode()
        tree["REPOSITORY"] = f"{self.repository}\n".encode()
        rows = [f"{item.artifact} {path} {item.mode}\n" for path, item in self.compiled.items()]
        if rows:
            tree["COMPILED"] = "".join(rows).encode()
        return {**tree, **self.files}
