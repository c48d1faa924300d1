"""Signing keys: fetched on the host, compared here with the pinned fingerprint, then filed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from provisioner import openpgp
from provisioner.actions import run_checked
from provisioner.command import Command
from provisioner.errors import StepFailed
from provisioner.platforms.base import VendorSource
from provisioner.traces import Trace
from provisioner.transport.base import Transport
from provisioner.transport.upload import put_command


@dataclass(frozen=True)
class FetchKey:
    """Download a signing key on the host and file it, if it is the pinned one.

    ``script`` prints what lies at the URL ``$1``: every package manager's network settings
    (proxies, authorities) are its own. ``$2`` is the source's proxy, where it has one.
    """

    source: VendorSource
    path: PurePosixPath
    script: str
    label: str = ""

    @property
    def traces(self) -> tuple[Trace, ...]:
        return (Trace("file", str(self.path)),)

    def describe(self) -> str:
        return (
            f"download {self.source.key_url}, require fingerprint "
            f"{self.source.key_fingerprint}, write {self.path}"
        )

    def apply(self, transport: Transport) -> None:
        arguments = filter(None, (self.source.key_url, self.source.proxy))
        fetch = Command.sh(self.script, *arguments, sudo=True)
        fetched = run_checked(transport, fetch)
        key = self._pinned_key(fetched.stdout, transport.host_name)
        run_checked(transport, put_command(key, self.path, sudo=True))

    def _pinned_key(self, data: bytes, host: str) -> bytes:
        """The pinned key alone, built again from what it has signed itself."""
        wanted = self.source.key_fingerprint.upper()
        try:
            key = openpgp.read_key(data)
            if key.fingerprint == wanted:
                return key.self_signed().armored()
        except ValueError as error:
            raise StepFailed(
                f"{self.source.key_url} is no signing key: {error}",
                host=host,
                remedy="check the mirror's key_url in the inventory: the file must hold one public "
                "key and nothing else",
            ) from error
        raise StepFailed(
            f"{self.source.key_url} holds another key ({key.fingerprint}) than the pinned "
            f"{wanted}; nothing was installed from it",
            host=host,
            remedy="find out who changed the key; pin key_fingerprint in the inventory only "
            "if you have verified it",
        )
