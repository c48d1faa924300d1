"""Whether a host can pull an image, asked on the host, and how many bytes that are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

from provisioner.command import Command, Result
from provisioner.text import one_line
from provisioner.transport.base import Transport
from remote_agent.protocol.values import ProtocolError, parse_json

ASK_TIMEOUT_S = 100.0
"""Four questions of 20 s each and a short one, one after the other; see ask_registry.py."""
MAX_ANSWER = 2 << 20
"""Bytes; see ask_registry.py."""
MAX_TOKENS = 200_000
"""The manifests of ten architectures with 127 layers each have 15,000."""
NOT_ASKED = 0
REFUSALS = (401, 403)
"""The engine was asked without a password, so these say little, but of Docker Hub after the client
was refused too: a registry of one's own may want a password from elsewhere."""
REASON_LENGTH = 500
MAX_SIZE = 1 << 46
"""Of all layers together; no image is as large."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
"""Kernel names to Go's, which manifests use; other names are the same in both."""


MACHINE = re.compile(r"[A-Za-z0-9_]{1,32}")
"""What ``uname -m`` prints."""


@dataclass(frozen=True)
class PullAnswer:
    """``can_pull`` None: only a try can tell. ``size``: compressed bytes, None where not known.
    ``reason``: why not, or why nobody knows."""

    can_pull: bool | None
    size: int | None = None
    reason: str = ""


def ask_registry(transport: Transport, source: str, proxy: str | None = None) -> PullAnswer:
    """Ask the host's Docker for the image ``source``; pulls nothing. Raises TransportError."""
    program = resources.files("provisioner.containers").joinpath("ask_registry.py").read_text()
    words = ("python3", "-I", "-c", program, source)
    stdin = f"{proxy or ''}\n".encode()  # a proxy's address may hold a password
    answer = transport.run(
        Command.of(*words, stdin=stdin, timeout_s=ASK_TIMEOUT_S, max_output_bytes=MAX_ANSWER)
    )
    return read_answer(answer, source)


def read_answer(answer: Result, source: str) -> PullAnswer:
    """What ask_registry.py printed about ``source``, checked."""
    found = _parsed(answer.text) if answer.ok else None
    if not isinstance(found, dict) or type(found.get("status")) is not int:
        return PullAnswer(None, reason="the host's answer about the registry makes no sense")
    texts = {key: value for key, value in found.items() if isinstance(value, str)}
    status, manifest = found["status"], texts.get("manifest", "")
    if manifest:
        return read_manifest(manifest, texts.get("machine", ""))
    if status == 200:
        return PullAnswer(True)
    said = texts.get("client_said") or texts.get("engine_said") or f"status {status}"
    reason = one_line(said.strip(), limit=REASON_LENGTH)
    is_open = status == NOT_ASKED or (status in REFUSALS and not _is_on_docker_hub(source))
    return PullAnswer(None if is_open else False, reason=reason)


def read_manifest(text: str, machine: str) -> PullAnswer:
    """From ``docker manifest inspect``, verbose or not, for a host of that ``uname -m``."""
    found = _parsed(text)
    if isinstance(found, dict) and isinstance(found.get("manifests"), list):
        entries, listed = found["manifests"], True
    else:
        listed = isinstance(found, list)
        entries = found if isinstance(found, list) else [found]
    entries = [entry for entry in entries if isinstance(entry, dict)]
    if not entries:
        return PullAnswer(True)
    if not MACHINE.fullmatch(machine):
        return PullAnswer(True)
    architecture = architecture_of(machine)
    ours = [entry for entry in entries if _is_for(entry, architecture)]
    if listed and not ours:
        return PullAnswer(False, reason=f"the registry has no image for linux/{architecture}")
    return PullAnswer(True, _size(ours[0]) if ours else None)


def architecture_of(machine: str) -> str:
    """Go's name of what ``uname -m`` prints."""
    return ARCHITECTURES.get(machine, machine)


def _is_on_docker_hub(source: str) -> bool:
    first, _, rest = source.partition("/")
    elsewhere = rest and ("." in first or ":" in first or first == "localhost")
    return not elsewhere or first in ("docker.io", "index.docker.io")


def _is_for(entry: dict[str, Any], architecture: str) -> bool:
    """Also where the manifest does not say."""
    descriptor = entry.get("Descriptor", entry)
    platform = descriptor.get("platform") if isinstance(descriptor, dict) else None
    named = platform if isinstance(platform, dict) else {}
    told = {key: value for key, value in named.items() if isinstance(value, str)}
    fits = told.get("architecture", architecture) == architecture
    return fits and told.get("os", "linux") == "linux"


def _size(entry: dict[str, Any]) -> int | None:
    bodies = (entry.get("SchemaV2Manifest"), entry.get("OCIManifest"), entry)
    lists = (body.get("layers") for body in bodies if isinstance(body, dict))
    layers: list[Any] = next((one for one in lists if isinstance(one, list)), [])
    sizes = [layer.get("size") for layer in layers if isinstance(layer, dict)]
    numbers = [size for size in sizes if type(size) is int and 0 <= size < MAX_SIZE]
    known = 0 < len(numbers) == len(layers) and sum(numbers) < MAX_SIZE
    return sum(numbers) if known else None


def _parsed(text: str) -> Any:
    try:
        return parse_json(text.encode("utf-8", "replace"), MAX_ANSWER, MAX_TOKENS)
    except ProtocolError:
        return None
