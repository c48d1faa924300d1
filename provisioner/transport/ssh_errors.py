"""Paramiko's and the socket's errors in rigup's own words, with the host and a remedy."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paramiko

from provisioner.errors import (
    AuthError,
    ConnectError,
    ConnectionLost,
    HostKeyChanged,
    RigupError,
    TransportError,
)
from provisioner.transport.known_hosts import fingerprint
from provisioner.transport.target import Target

NO_BANNER = "Error reading SSH protocol banner"
"""What Paramiko says where the other side hung up, and where it said nothing in time."""


class TunnelRefused(ConnectError):
    """A host gets no connection to another one; ``reason`` is what it says."""

    def __init__(self, aim: str, reason: str, *, host: str) -> None:
        super().__init__(f"the host cannot connect to {aim}: {reason}", host=host)
        self.reason = reason


@dataclass(frozen=True)
class Translated:
    """A context whose Paramiko errors become rigup's.

    With a ``target`` they are about opening a connection, without one about using it.
    ``asked_for`` is the inventory host that was asked for, where ``host`` is a jump host on the
    way to it. ``detail`` adds what else is known about a failed connection.
    """

    host: str
    target: Target | None = None
    asked_for: str | None = None
    detail: Callable[[], str] = str

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, RigupError):
            return
        for types, translate in _TRANSLATIONS:
            if isinstance(error, types):
                raise translate(self, error) from error


def connection_lost(host: str) -> ConnectionLost:
    return ConnectionLost("the connection broke", host=host)


def _changed(context: Translated, error: Any) -> RigupError:
    offered = fingerprint(error.key.get_base64())
    pinned = fingerprint(error.expected_key.get_base64())
    return HostKeyChanged(
        f"THE HOST KEY HAS CHANGED: pinned {pinned}, offered {offered}. Somebody may be "
        "listening in, or the host was reinstalled",
        host=context.host,
        remedy="ask whoever runs the host; if it was reinstalled: "
        f"invoke trust --host {context.asked_for or context.host} --replace",
    )


def _refused(context: Translated, error: Any) -> RigupError:
    return AuthError(f"the host refused the login ({error})", host=context.host)


def _no_channel(context: Translated, error: Any) -> RigupError:
    return TransportError(
        f"the host opens no further channel: {error.text}",
        host=context.host,
        remedy="raise MaxSessions in the host's /etc/ssh/sshd_config",
    )


def _unreachable(context: Translated, error: Any) -> RigupError:
    target, reason = context.target, _reason(error)
    if target is None:
        return ConnectionLost(
            f"the connection broke: {reason}",
            host=context.host,
            remedy="look at the network and the host's load, then try again",
        )
    way = "through the ProxyCommand " if target.proxy_command else ""
    if detail := context.detail():
        reason = f"{reason} ({detail})"
    return ConnectError(
        f"cannot connect {way}to {target.address} port {target.port}: {reason}",
        host=context.host,
        remedy="is it switched on, is the address right, does `ssh` reach it?",
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return "the name is not known (DNS)"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, EOFError):
        return "it hung up"
    if str(error).startswith(NO_BANNER) and error.__context__ is not None:
        return _reason(error.__context__)
    text = getattr(error, "strerror", None) or str(error)
    # What Paramiko says where the key exchange did not end in time.
    return "no answer in time" if text == "No existing session" else text or type(error).__name__


_Translate = Callable[[Translated, Any], RigupError]
_TRANSLATIONS: tuple[tuple[Any, _Translate], ...] = (
    (paramiko.BadHostKeyException, _changed),
    (paramiko.AuthenticationException, _refused),
    (paramiko.ChannelException, _no_channel),
    ((OSError, EOFError, paramiko.SSHException), _unreachable),
)
