"""Which keys are offered to a host, in OpenSSH's order, and what is said when none will do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko

from provisioner.errors import AuthError
from provisioner.transport.deadline import Deadline
from provisioner.transport.identities import public_key
from provisioner.transport.target import Target


class KeysOnly:
    """Public keys and nothing else, as Paramiko's ``auth_strategy``: no password is asked for.

    First the agent's keys that belong to an identity file, then the files themselves, then the
    agent's other keys unless only the named ones may be used (IdentitiesOnly, ``identity_file``).
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tried: list[str] = []

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Raises AuthError that names every key and what became of it."""
        agent = self._agent()
        try:
            for key in self._keys(agent.get_keys() if agent else ()):
                if self._is_accepted(transport, key):
                    return
        finally:
            if agent is not None:
                agent.close()
        raise self._failure(f"the host accepted none of these keys: {', '.join(self._tried)}")

    def _keys(self, held: tuple[paramiko.AgentKey, ...]) -> Iterator[paramiko.PKey]:
        public = {path: public_key(path) for path in self._target.identities}
        named = [key for key in held if key.asbytes() in public.values()]
        for key in named:
            self._tried.append(f"{_name(key)} of the SSH agent")
            yield key
        for path in self._target.identities:
            is_held = public[path] in [key.asbytes() for key in named]
            yield from self._from_file(path, is_held)
        if self._target.identities_only:
            return
        for key in held:
            if key not in named:
                self._tried.append(f"{_name(key)} of the SSH agent")
                yield key

    def _from_file(self, path: Path, is_held: bool) -> Iterator[paramiko.PKey]:
        try:
            key = paramiko.PKey.from_path(path)
        except OSError as error:
            self._note(path, error.strerror or str(error))
        except TypeError:  # what the cryptography package raises for a missing passphrase
            self._note(path, "" if is_held else "has a passphrase; not in the SSH agent")
        except (ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
            self._note(path, "" if is_held else "no private key that can be read")
        else:
            self._tried.append(str(path))
            yield key

    def _note(self, path: Path, reason: str) -> None:
        if reason:
            self._tried.append(f"{path} ({reason})")

    def _is_accepted(self, transport: paramiko.Transport, key: paramiko.PKey) -> bool:
        deadline = Deadline(self._target.connect_timeout_s)
        try:
            still_wanted = transport.auth_publickey(self._target.user, key)
        except paramiko.BadAuthenticationType as error:
            accepted = ", ".join(error.allowed_types)
            raise self._failure(f"the host takes no keys, only: {accepted}") from error
        except (paramiko.SSHException, EOFError) as error:
            if not transport.is_active():
                tried = ", ".join(self._tried)
                raise self._failure(f"the host hung up after these keys: {tried}") from error
            if deadline.has_passed:
                raise self._failure(f"no answer in time to {self._tried[-1]}") from error
            return False
        if still_wanted:
            wanted = ", ".join(still_wanted)
            raise self._failure(f"the host wants more than a key: {wanted}")
        return True

    def _agent(self) -> paramiko.Agent | None:
        """The SSH agent; None where what answers is none, or nothing answers in time."""
        try:
            return _PatientAgent(self._target.connect_timeout_s)
        except TimeoutError:
            self._tried.append("the SSH agent (it does not answer)")
        except paramiko.SSHException:
            pass
        return None

    def _failure(self, reason: str) -> AuthError:
        if not self._tried:
            reason = "there is no key to offer: no identity file, no key in the SSH agent"
        return AuthError(
            f"{self._target.user} may not log in: {reason}",
            host=self._target.host_name,
            remedy="ssh-copy-id to the host, set identity_file in the inventory, "
            "or ssh-add the key",
        )


class _PatientAgent(paramiko.Agent):
    """Paramiko waits without limit for an agent, such as one that is forwarded over a dead link."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        super().__init__()

    def _connect(self, conn: Any) -> None:
        conn.settimeout(self._limit_s)
        try:
            super()._connect(conn)  # type: ignore[misc]
        except BaseException:
            conn.close()
            raise


def _name(key: paramiko.AgentKey) -> str:
    return str(getattr(key, "comment", "") or key.fingerprint)
