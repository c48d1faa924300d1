"""Getting an image onto a host: it is there, it is pulled, or it is sent over SSH.

Sending streams ``docker save`` through the session into ``docker load``: no copy of the image is
kept in memory or in a file on either side. A session has no end of file of its own, so the bytes
travel in frames, which receive_image.py takes apart on the host; a link that breaks ends the load
instead of completing it with half an image.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources

from provisioner.command import Command, Result
from provisioner.containers.docker_cli import question
from provisioner.containers.receive_image import END_MARK, LOAD_LIMIT_S, SILENCE_S
from provisioner.errors import CommandFailed, CommandTimeout, ConnectionLost, RigupError
from provisioner.transport.base import Session, Transport
from provisioner.transport.deadline import watched
from remote_agent.protocol.job import is_made_by_rigup

Progress = Callable[[str], None]

CHUNK = 1 << 20
PULL_TIMEOUT_S = 3600.0
LOAD_TIMEOUT_S = LOAD_LIMIT_S + 30.0
"""From the last byte of an image until the host has said how that ended."""
LOCAL_TIMEOUT_S = 60.0
IN_NO_REGISTRY = "an image that rigup made is in no registry"
REPORT_EVERY = 128 << 20
GZIP_LEVEL = 1
"""Fast: about 100 MB/s on one core, and a third of the size for a PyTorch image."""


def silent(_: str) -> None:
    """A progress callback for callers who want none."""


def image_id(transport: Transport, reference: str) -> str | None:
    """The id of an image on the host; None when it has none of that name."""
    found = _inspect(transport, reference, "{{.Id}}")
    return found.text.strip() if found.ok else None


def image_label(transport: Transport, reference: str, label: str) -> str:
    """A label of an image on the host; empty when it is not set."""
    found = _inspect(transport, reference, f'{{{{index .Config.Labels "{label}"}}}}')
    return found.text.strip() if found.ok else ""


def ensure_image(
    transport: Transport,
    reference: str,
    *,
    mirror: str | None = None,
    pullable: bool = True,
    progress: Progress = silent,
) -> str:
    """Make the host have ``reference`` and return its id.

    Nothing is done when it is there. Else it is pulled, through ``mirror`` if one is set, and
    where that fails (or no registry has it: not ``pullable``) it is sent from this machine's
    Docker. Raises RigupError with both reasons when neither works.
    """
    present = image_id(transport, reference)
    if present is not None:
        return present
    if not pullable:
        send_image(transport, reference, progress)
    else:
        refusal = pull(transport, reference, mirror=mirror, progress=progress)
        if refusal is not None:
            _send_instead(transport, reference, refusal, progress)
    loaded = image_id(transport, reference)
    if loaded is None:
        raise RigupError(f"{reference} did not arrive", host=transport.host_name)
    return loaded


def pull(
    transport: Transport, reference: str, *, mirror: str | None, progress: Progress
) -> str | None:
    """Pull the image under its own name; the reason when that did not work, else None."""
    if is_made_by_rigup(reference):
        return IN_NO_REGISTRY
    source = pulled_as(reference, mirror)
    progress(f"{transport.host_name}: pulling {source}")
    words = ("docker", "pull", "--quiet", source)
    pulled = transport.run(Command.of(*words, timeout_s=PULL_TIMEOUT_S))
    if not pulled.ok:
        return pulled.describe_failure()
    if source != reference:
        _run(transport, Command.of("docker", "tag", source, reference))
    return None


def pulled_as(reference: str, mirror: str | None) -> str:
    """The name under which a host pulls the image."""
    if not mirror or reference.startswith(f"{mirror}/"):
        return reference
    return f"{mirror}/{_without_default_registry(reference)}"


def kept_as(reference: str, mirror: str | None) -> str:
    """The name under which the image is used: Docker gives none a second name by digest."""
    return pulled_as(reference, mirror) if _is_pinned(reference) else reference


def not_to_be_sent(reference: str) -> str:
    """Why the image cannot be sent, "" where it can."""
    if _is_pinned(reference):
        return f"{reference} is pinned by digest, and an image that is sent keeps only its tags"
    return ""


def send_image(
    transport: Transport,
    reference: str,
    progress: Progress = silent,
    arriving: str | None = None,
) -> None:
    """Stream the image from this machine's Docker into the host's.

    ``arriving``: a file on the host that tells how far it is, as receive_image.py writes it. Once
    every byte has arrived, the host completes the load without this machine. Raises RigupError;
    ConnectionLost where the image is not on the host, or nobody could say whether it is.
    """
    if problem := not_to_be_sent(reference):
        raise RigupError(problem, remedy="name it by its tag")
    total = local_size(reference)
    if total is None:
        raise RigupError(f"this machine's Docker has no image {reference}")
    host = transport.host_name
    progress(f"{host}: sending {reference} ({_mib(total)} before compression)")
    program = resources.files("provisioner.containers").joinpath("receive_image.py").read_text()
    words = ("python3", "-I", "-c", program, *([arriving] if arriving else []))
    session = transport.open_session(Command.of(*words))
    try:
        with _saved(reference) as stream:
            count = _send_frames(session, _reported(stream, total, host, progress))
        session.write(_frame(b"", count))
        _await_load(session, reference, host)
    except ConnectionLost:
        _await_load(session, reference, host)  # a load that ended early said why
        raise
    finally:
        session.close()


def not_to_be_had(host: str, reference: str, refusal: str) -> RigupError:
    """Neither the host nor this machine can provide the image; ``refusal``: why it was not
    pulled."""
    here = "does not have it" if shutil.which("docker") else "is not installed"
    return RigupError(
        f"the host cannot pull {reference}, and this machine's Docker {here}\n{refusal}",
        host=host,
        remedy="set mirrors.container_registry in the inventory to a registry that the host "
        f"reaches; or `docker pull {reference}` here, and it is sent over SSH",
    )


def local_size(reference: str) -> int | None:
    """Bytes of an image in this machine's Docker; None when there is no image or no Docker."""
    size = _local(reference, "{{.Size}}")
    return int(size) if size.isdecimal() else None


def local_architecture(reference: str) -> str:
    """As Go names it, such as ``amd64``, of an image in this machine's Docker; "" without one."""
    return _local(reference, "{{.Architecture}}")


def _local(reference: str, form: str) -> str:
    words = ["docker", "image", "inspect", "--format", form, reference]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=LOCAL_TIMEOUT_S, check=False
        )
    except OSError:
        return ""
    except subprocess.TimeoutExpired:
        raise RigupError(
            f"this machine's Docker does not answer within {LOCAL_TIMEOUT_S:g} s",
            remedy="look at it: docker info",
        ) from None
    return done.stdout.strip() if done.returncode == 0 else ""


def _send_instead(transport: Transport, reference: str, refusal: str, progress: Progress) -> None:
    if local_size(reference) is None:
        raise not_to_be_had(transport.host_name, reference, refusal)
    send_image(transport, reference, progress)


@contextmanager
def _saved(reference: str) -> Iterator[Iterator[bytes]]:
    """``docker save`` as chunks; raises RigupError when it fails."""
    words = ["docker", "save", reference]
    with subprocess.Popen(
        words, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield _chunks(process.stdout.fileno(), reference)
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode != 0:
        raise RigupError(f"`docker save {reference}` failed: {said}")


def _chunks(fd: int, reference: str) -> Iterator[bytes]:
    """All that ``docker save`` writes. Raises RigupError where it hangs."""
    data = b""
    while part := _read(fd, CHUNK - len(data), reference):
        data += part
        if len(data) == CHUNK:
            yield data
            data = b""
    if data:
        yield data


def _read(fd: int, size: int, reference: str) -> bytes:
    poll = select.poll()  # select() itself knows no descriptor above 1023
    poll.register(fd, select.POLLIN)
    if poll.poll(SILENCE_S * 1000):
        return os.read(fd, size)
    raise RigupError(
        f"`docker save {reference}` gave nothing for {SILENCE_S:g} s",
        remedy="look at this machine's Docker: docker info",
    )


def _reported(
    chunks: Iterator[bytes], total: int, host: str, progress: Progress
) -> Iterator[bytes]:
    sent = reported = 0
    for chunk in chunks:
        sent += len(chunk)
        yield chunk
        if sent - reported >= REPORT_EVERY:
            reported = sent
            progress(f"{host}: sent {_mib(sent)} of about {_mib(total)}")


def _send_frames(session: Session, chunks: Iterator[bytes]) -> int:
    """Compressed frames without the one that ends; how many bytes they hold, uncompressed."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, wbits=31)
    count = 0
    for chunk in chunks:
        count += len(chunk)
        data = packer.compress(chunk)
        if data:
            session.write(_frame(data, count))
    session.write(_frame(packer.flush(), count))
    return count


def _frame(data: bytes, count: int) -> bytes:
    """See receive_image.py; without data: the end."""
    return len(data).to_bytes(4, "big") + count.to_bytes(8, "big") + data


def _await_load(session: Session, reference: str, host: str) -> None:
    said = _last_words(session, host)
    words, _, code = said.decode("utf-8", "replace").rpartition(END_MARK)
    if code.strip() == "0":
        return
    if not code.strip().lstrip("-").isdigit():
        raise ConnectionLost(f"the link broke while {reference} was sent", host=host)
    raise RigupError(
        f"docker load of {reference} failed: {words.strip() or f'exit {code.strip()}'}",
        host=host,
        remedy="is there space? `df -h /var/lib/docker` on the host; then try again",
    )


def _last_words(session: Session, host: str) -> bytes:
    """What the program prints until it ends, its last part. Raises CommandTimeout."""
    said = b""
    with watched(LOAD_TIMEOUT_S, session.close) as watch:
        try:
            while chunk := session.read():
                said = (said + chunk)[-CHUNK:]
        except ConnectionLost:
            if not watch.is_late:
                raise
    if watch.is_late:
        raise CommandTimeout(
            f"docker load did not end within {LOAD_TIMEOUT_S:g} s",
            host=host,
            remedy="look at the host's disk and Docker, then try again",
        )
    return said


def _inspect(transport: Transport, reference: str, form: str) -> Result:
    words = ("docker", "image", "inspect", "--format", form, reference)
    result = transport.run(question(*words))
    missing = b"no such image" in result.stderr.lower()
    if not result.ok and not missing:
        raise CommandFailed(
            result, host=transport.host_name, remedy="is Docker usable? docker info"
        )
    return result


def _run(transport: Transport, command: Command) -> Result:
    result = transport.run(command)
    if not result.ok:
        raise CommandFailed(result, host=transport.host_name)
    return result


def _is_pinned(reference: str) -> bool:
    return "@" in reference


def _without_default_registry(reference: str) -> str:
    return reference.removeprefix("docker.io/")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
