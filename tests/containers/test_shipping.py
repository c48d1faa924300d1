"""Images on the move, between two stand-ins for the ``docker`` program on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from provisioner.containers import shipping
from provisioner.containers.shipping import ensure_image, send_image
from provisioner.errors import ConnectionLost, RigupError
from provisioner.transport.base import Session
from provisioner.transport.local import LocalTransport, ProcessSession

STAND_IN = """\
#!/bin/sh
# $STATE/here and $STATE/there: image contents on this machine and on the host.
echo "$*" >> "$STATE/calls"
case "$1 $2" in
"image inspect")
    case "$4" in *Size*) place=here ;; *) place=there ;; esac
    if [ -s "$STATE/$place" ]; then echo 4096; exit; fi
    echo "Error: No such image: $5" >&2; exit 1 ;;
"pull --quiet") [ -e "$STATE/registry" ] || { echo "no route to registry" >&2; exit 1; }
    cp "$STATE/registry" "$STATE/there" ;;
"save "*) [ ! -e "$STATE/save-hangs" ] || exec sleep 60
    cat "$STATE/here"; [ ! -e "$STATE/save-fails" ] || { echo "disk error" >&2; exit 3; } ;;
"load --quiet") [ ! -e "$STATE/load-fails" ] || { head -c 10 >/dev/null
    echo "no space left on device" >&2; exit 1; }
    cat > "$STATE/partial" && gunzip < "$STATE/partial" > "$STATE/there" ;;
esac
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(STAND_IN)
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(tmp_path))
    monkeypatch.setattr(shipping, "CHUNK", 1 << 16)
    monkeypatch.setattr(shipping, "REPORT_EVERY", 1 << 20)
    return tmp_path


def calls(state: Path) -> list[str]:
    return (state / "calls").read_text().splitlines()


def test_a_present_image_is_left_alone(state: Path) -> None:
    (state / "there").write_bytes(b"x")
    assert ensure_image(LocalTransport("h"), "team/image:1") == "4096"
    assert len(calls(state)) == 1


def test_an_image_is_pulled_through_the_mirror_and_keeps_its_name(state: Path) -> None:
    (state / "registry").write_bytes(b"x")
    ensure_image(LocalTransport("h"), "docker.io/team/image:1", mirror="mirror.example:5000/hub")
    assert "pull --quiet mirror.example:5000/hub/team/image:1" in calls(state)
    assert "tag mirror.example:5000/hub/team/image:1 docker.io/team/image:1" in calls(state)


def test_without_a_registry_every_byte_is_sent(state: Path) -> None:
    content = os.urandom(3 << 20) + bytes(2 << 20)
    (state / "here").write_bytes(content)
    said: list[str] = []
    ensure_image(LocalTransport("h"), "team/image:1", progress=said.append)
    assert (state / "there").read_bytes() == content
    assert any(re.match(r"h: sent \d+ MiB of about", line) for line in said)


def test_the_host_is_told_how_much_arrived_before_compression(state: Path) -> None:
    (state / "here").write_bytes(bytes(3 << 20))
    send_image(LocalTransport("h"), "team/image:1", arriving=str(state / "arriving"))
    assert (state / "arriving").read_text() == str(3 << 20)


def test_neither_registry_nor_image_gives_both_reasons(state: Path) -> None:
    with pytest.raises(RigupError) as caught:
        ensure_image(LocalTransport("h"), "team/image:1")
    assert "no route to registry" in str(caught.value)
    assert "container_registry" in str(caught.value)


def test_a_docker_save_that_hangs_ends(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "here").write_bytes(b"x")
    (state / "save-hangs").touch()
    monkeypatch.setattr(shipping, "SILENCE_S", 0.2)
    with pytest.raises(RigupError, match=r"docker save team/image:1` gave nothing for 0.2 s"):
        send_image(LocalTransport("h"), "team/image:1")


def test_a_load_that_fails_shows_why(state: Path) -> None:
    (state / "here").write_bytes(os.urandom(4 << 20))
    (state / "load-fails").touch()
    with pytest.raises(RigupError, match="no space left on device"):
        send_image(LocalTransport("h"), "team/image:1")


def test_half_an_image_is_never_loaded(state: Path) -> None:
    (state / "here").write_bytes(os.urandom(1 << 20))
    (state / "save-fails").touch()
    with pytest.raises(RigupError, match="disk error"):
        send_image(LocalTransport("h"), "team/image:1")
    assert not (state / "there").exists()


class BreakingTransport(LocalTransport):
    """The link breaks at the tenth write, as an SSH channel would say it."""

    def open_session(self, command: object) -> Session:
        session = ProcessSession(["sh", "-c", command.render()])  # type: ignore[attr-defined]
        write, count = session.write, iter(range(1000))

        def breaking(data: bytes) -> None:
            if next(count) == 10:
                session._process.stdin.close()  # type: ignore[union-attr]
                raise ConnectionLost("the link broke", host="h")
            write(data)

        session.write = breaking  # type: ignore[method-assign]
        return session


def test_a_broken_link_loads_nothing(state: Path) -> None:
    (state / "here").write_bytes(os.urandom(4 << 20))
    with pytest.raises(RigupError, match="link broke"):
        send_image(BreakingTransport("h"), "team/image:1")
    assert not (state / "there").exists()
