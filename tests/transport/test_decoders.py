"""Whatever bytes come, from a host or a file: a value or a clear error, never anything else."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.command import Secret
from provisioner.errors import ConnectError
from provisioner.transport.identities import public_key
from provisioner.transport.known_hosts import fingerprint, pinned_keys
from provisioner.transport.sudo import MOST_HELD, SudoDialogue
from provisioner.transport.target import Target, parse_jump, parse_options

NONCE = "0123456789abcdef"
EXAMPLE = SudoDialogue(None, lambda _: None, nonce=NONCE)
PROMPT, MARKER = EXAMPLE.prompt.encode(), EXAMPLE.marker.encode()
PARTS = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([PROMPT, MARKER, PROMPT[:9], MARKER[:9], EXAMPLE.prompt_argument.encode()]),
    st.sampled_from([b"\n", b"Sorry, try again.\n", b"x" * 5000]),
)
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIMiDX33+6S8D3u968mV57YcPDx6uW/F0aWUbAt3uGGXU"
WORDS = st.sampled_from(
    [
        *("box", "*", "!box", "[box]:22", "|1|", "|1|YQ==|YQ==", "@revoked", "@cert-authority"),
        *("ssh-ed25519", KEY, "AAAA", "=", "#", "\x00", "\xff", "\n", " "),
    ]
)
QUIETLY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(parts=st.lists(PARTS, max_size=40))
@settings(deadline=None)
def test_a_password_is_sent_once_and_only_after_the_prompt(parts: list[bytes]) -> None:
    sent: list[bytes] = []
    dialogue = SudoDialogue(Secret("open"), sent.append, nonce=NONCE)
    heard = b""
    for part in parts:
        had_passed = dialogue.passed
        heard += part
        shown = dialogue.receive(part)
        if had_passed:
            assert shown == part
        if dialogue.problem is not None:
            break
        assert len(dialogue._held) <= MOST_HELD
    assert sent in ([], [b"open\n"])
    if sent:
        assert PROMPT in heard
    if dialogue.passed:
        assert MARKER in heard
    dialogue.finish()
    assert dialogue.passed or dialogue.problem


def target(path: Path) -> Target:
    return Target(
        host_name="box",
        address="box",
        port=22,
        user="ann",
        identities=(),
        identities_only=True,
        known_hosts=(path,),
        key_name="box",
        jump=None,
        proxy_command=None,
        connect_timeout_s=1.0,
        command_timeout_s=1.0,
    )


@given(lines=st.lists(st.one_of(st.binary(max_size=60), st.lists(WORDS, max_size=6)), max_size=12))
@QUIETLY
def test_any_known_hosts_file_gives_keys_or_none(tmp_path: Path, lines: list[object]) -> None:
    path = tmp_path / "known_hosts"
    encoded = [
        line if isinstance(line, bytes) else " ".join(map(str, line)).encode()  # type: ignore[call-overload]
        for line in lines
    ]
    path.write_bytes(b"\n".join(encoded))
    for text in pinned_keys(target(path)).values():
        assert fingerprint(text).startswith("SHA256:")


@given(data=st.binary(max_size=300), head=st.sampled_from([b"", b"ssh-ed25519 ", b"-----BEGIN\n"]))
@QUIETLY
def test_any_identity_file_gives_a_key_or_none(tmp_path: Path, data: bytes, head: bytes) -> None:
    path = tmp_path / "id"
    path.write_bytes(head + data)
    assert isinstance(public_key(path), bytes | None)


@given(text=st.text(max_size=200))
@settings(deadline=None)
def test_any_answer_of_ssh_gives_options_of_texts(text: str) -> None:
    for keyword, values in parse_options(text).items():
        assert keyword == keyword.lower()
        assert all(values)


@given(text=st.text(alphabet="ab@:[]/0123456789.%ü\n ", max_size=40))
@settings(deadline=None)
def test_any_jump_host_is_read_or_refused(text: str) -> None:
    try:
        _, host, port = parse_jump(text)
    except ConnectError:
        return
    assert host
    assert port is None or port >= 0
