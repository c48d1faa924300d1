"""Who may log in to practice hosts: a key pair for both users, a sudo password for ``admin``."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import LabError
from provisioner.home import write_private
from provisioner.lab.containers import LabHost
from provisioner.lab.docker import Docker

PASSWORD_BYTES = 18
GRANT = """\
set -eu
IFS= read -r password
IFS= read -r key
for user in lab admin; do
  printf '%s\\n' "$key" > "/home/$user/.ssh/authorized_keys"
  chown "$user:$user" "/home/$user/.ssh/authorized_keys"
  chmod 600 "/home/$user/.ssh/authorized_keys"
done
printf 'admin:%s\\n' "$password" | chpasswd
"""


@dataclass(frozen=True)
class Access:
    """Files under the lab directory: the private key and ``admin``'s sudo password (both 0600)."""

    identity: Path
    password_file: Path

    @property
    def public_key(self) -> str:
        return self.identity.with_suffix(".pub").read_text("utf-8").strip()


def access_of(lab_dir: Path) -> Access:
    return Access(lab_dir / "id_ed25519", lab_dir / "admin-password")


def prepare(lab_dir: Path) -> Access:
    """The lab's key pair and password; made at the first call, kept afterwards."""
    access = access_of(lab_dir)
    lab_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not access.identity.with_suffix(".pub").exists():
        access.identity.unlink(missing_ok=True)
        make_key(access.identity)
    if not access.password_file.exists():
        write_private(access.password_file, f"{secrets.token_urlsafe(PASSWORD_BYTES)}\n".encode())
    return access


def grant(docker: Docker, host: LabHost, access: Access) -> None:
    """Let both users log in with the key, and ``admin`` use sudo with the password."""
    password = access.password_file.read_text("utf-8").strip()
    lines = f"{password}\n{access.public_key}\n".encode()
    docker.run("exec", "--interactive", host.container, "sh", "-c", GRANT, stdin=lines)


def make_key(path: Path) -> None:
    """An Ed25519 key pair without a passphrase: ``path`` and ``path``.pub. Raises LabError."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rigup-lab", "-f", str(path)]
    try:
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise LabError(
            "there is no ssh-keygen here", remedy="apt-get install openssh-client"
        ) from error
    except subprocess.CalledProcessError as error:
        raise LabError(f"ssh-keygen failed: {error.stderr.decode('utf-8', 'replace')}") from error
