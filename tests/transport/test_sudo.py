"""The conversation with sudo: a password meets nothing but its prompt, input nothing but the
command. Some tests run the real wrapped line in ``sh``, with a stand-in for sudo on the path."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.command import Command, Secret
from provisioner.transport.sudo import REFUSALS, SudoDialogue

NONCE = "0123456789abcdef"
PASSWORD = "correct horse"


class Exchange:
    """A dialogue and what it sent."""

    def __init__(self, password: str | None = PASSWORD) -> None:
        self.sent: list[bytes] = []
        secret = None if password is None else Secret(password)
        self.dialogue = SudoDialogue(secret, self.sent.append, nonce=NONCE)

    def hear(self, *chunks: bytes) -> bytes:
        return b"".join(self.dialogue.receive(chunk) for chunk in chunks)

    @property
    def prompt(self) -> bytes:
        return self.dialogue.prompt.encode()

    @property
    def marker(self) -> bytes:
        return self.dialogue.marker.encode()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def test_without_a_password_prompt_the_marker_opens_the_way() -> None:
    exchange = Exchange(password=None)
    assert exchange.hear(exchange.marker + b"warning: low disk\n") == b"warning: low disk\n"
    assert exchange.dialogue.passed
    assert exchange.dialogue.problem is None
    assert exchange.sent == []


def test_the_password_follows_the_prompt_and_is_sent_once() -> None:
    exchange = Exchange()
    assert exchange.hear(exchange.prompt) == b""
    assert exchange.sent == [b"correct horse\n"]
    assert not exchange.dialogue.passed
    assert exchange.hear(exchange.marker, b"real output") == b"real output"
    assert exchange.sent == [b"correct horse\n"]


@settings(deadline=None)
@given(places=st.lists(st.integers(0, 200), max_size=12))
def test_any_chunking_gives_the_same_conversation(places: list[int]) -> None:
    exchange = Exchange()
    told = b"We trust you have received the usual lecture.\n" + exchange.prompt
    exchange.hear(*cut(told, places))
    assert exchange.sent == [b"correct horse\n"]
    heard = exchange.hear(*cut(exchange.marker + b"err\xff\n", places))
    assert exchange.dialogue.passed
    assert heard + exchange.dialogue.finish() == (
        b"We trust you have received the usual lecture.\nerr\xff\n"
    )


def test_no_password_goes_out_before_the_whole_prompt_was_heard() -> None:
    exchange = Exchange()
    exchange.hear(exchange.prompt[:-1])
    assert exchange.sent == []
    exchange.hear(exchange.prompt[-1:])
    assert exchange.sent == [b"correct horse\n"]


@pytest.mark.parametrize(
    "imitation",
    [
        b"[sudo] password for ml: ",
        b"Password: ",
        b"[rigup fedcba9876543210 password]",
        b"[rigup  password]",
    ],
)
def test_another_prompt_gets_no_password(imitation: bytes) -> None:
    exchange = Exchange()
    exchange.hear(imitation)
    assert exchange.sent == []


def test_after_the_marker_both_are_only_text() -> None:
    exchange = Exchange()
    exchange.hear(exchange.marker)
    assert exchange.hear(exchange.prompt) == exchange.prompt
    assert exchange.hear(exchange.marker) == exchange.marker
    assert exchange.sent == []


def test_a_second_prompt_means_that_the_password_is_wrong() -> None:
    exchange = Exchange()
    exchange.hear(exchange.prompt, b"Sorry, try again.\n", exchange.prompt)
    assert exchange.dialogue.problem == "the sudo password is wrong"
    assert exchange.sent == [b"correct horse\n"]
    assert not exchange.dialogue.passed


def test_a_prompt_without_a_password_at_hand_is_told_apart() -> None:
    exchange = Exchange(password=None)
    exchange.hear(exchange.prompt)
    assert exchange.dialogue.needs_password
    assert "none was given" in str(exchange.dialogue.problem)
    assert exchange.sent == []


@pytest.mark.parametrize(("words", "reason"), REFUSALS.items())
def test_known_refusals_are_explained(words: str, reason: str) -> None:
    exchange = Exchange()
    exchange.hear(f"sudo: sorry, ml {words}, reported.\n".encode())
    exchange.dialogue.finish()
    assert exchange.dialogue.problem == reason


@pytest.mark.parametrize(
    ("told", "shown"), [(b"sudo: \xff broken\n", "broken"), (b"", "no reason given")]
)
def test_other_refusals_are_quoted(told: bytes, shown: str) -> None:
    exchange = Exchange()
    exchange.hear(told)
    exchange.dialogue.finish()
    assert shown in str(exchange.dialogue.problem)


def test_each_dialogue_has_its_own_nonce() -> None:
    first, second = (SudoDialogue(None, lambda data: None) for _ in range(2))
    assert first.nonce != second.nonce
    assert len(first.nonce) >= 16


def test_the_password_is_in_no_representation() -> None:
    exchange = Exchange()
    exchange.hear(exchange.prompt)
    line = exchange.dialogue.wrap(Command.of("cat", stdin=b"also private"))
    for shown in (line, repr(exchange.dialogue), str(exchange.dialogue.password)):
        assert PASSWORD not in shown
        assert "also private" not in shown


FAKE_SUDO = """\
#!/bin/sh
# asks with the given prompt until it is told the password, as sudo -S does
[ "$1 $2" = '-S -p' ] || exit 64
prompt=$(printf '%s' "$3" | sed 's/%%/%/g')
shift 4
for attempt in 1 2; do
  printf '%s' "$prompt" >&2
  IFS= read -r told || exit 1
  [ "$told" = "$FAKE_PASSWORD" ] && exec "$@"
  echo 'Sorry, try again.' >&2
done
exit 1
"""


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """Programs of an unprivileged user: ``id -u`` says 1000, ``sudo`` wants a password."""
    for name, text in (("sudo", FAKE_SUDO), ("id", "#!/bin/sh\necho 1000\n")):
        program = tmp_path / name
        program.write_text(text)
        program.chmod(0o755)
    return tmp_path


def converse(
    bin_dir: Path,
    command: Command,
    password: str | None,
    *,
    real: str = PASSWORD,
    shell: tuple[str, ...] = ("sh", "-c"),
) -> tuple[SudoDialogue, bytes, bytes, int]:
    """Run the wrapped line for real: dialogue, stdout, stderr without markers, exit code."""
    environment = {"PATH": f"{bin_dir}:{os.environ['PATH']}", "FAKE_PASSWORD": real}
    with subprocess.Popen(
        [*shell, SHOWN.wrap(command)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        secret = None if password is None else Secret(password)
        dialogue = SudoDialogue(secret, process.stdin.write, nonce=NONCE)
        errors = b""
        while not dialogue.passed and not dialogue.problem:
            chunk = os.read(process.stderr.fileno(), 4096)
            if not chunk:
                break
            errors += dialogue.receive(chunk)
        if dialogue.passed:
            process.stdin.write(command.stdin or b"")
        process.stdin.close()
        errors += process.stderr.read() + dialogue.finish()
        return dialogue, process.stdout.read(), errors, process.wait()


ECHOING_SHELLS = (("sh", "-xc"), ("sh", "-vc"), ("bash", "-xc"), ("bash", "-vc"))

SHOWN = SudoDialogue(None, lambda data: None, nonce=NONCE)


def test_the_command_receives_exactly_its_own_input(bin_dir: Path) -> None:
    command = Command.sh("cat; echo problem >&2; exit 7", sudo=True, stdin=b"first\n\x00last")
    dialogue, stdout, stderr, code = converse(bin_dir, command, PASSWORD)
    assert dialogue.problem is None
    assert (stdout, stderr, code) == (b"first\n\x00last", b"problem\n", 7)


def test_input_is_not_given_away_as_a_password(bin_dir: Path) -> None:
    command = Command.of("cat", sudo=True, stdin=b"secret input\n")
    dialogue, stdout, stderr, _ = converse(bin_dir, command, "a wrong guess")
    assert dialogue.problem == "the sudo password is wrong"
    assert b"secret input" not in stdout + stderr


@pytest.mark.parametrize("shell", ECHOING_SHELLS, ids=" ".join)
def test_a_shell_that_echoes_the_command_line_gets_no_password(
    bin_dir: Path, shell: tuple[str, ...]
) -> None:
    free = '#!/bin/sh\nshift 4\nexec "$@"\n'  # asks for nothing: NOPASSWD
    (bin_dir / "sudo").write_text(free)
    command = Command.of("cat", sudo=True, stdin=b"own input\n")
    dialogue, stdout, stderr, _ = converse(bin_dir, command, PASSWORD, shell=shell)
    assert dialogue.passed
    assert stdout == b"own input\n"
    assert PASSWORD.encode() not in stderr


@pytest.mark.parametrize("shell", ECHOING_SHELLS, ids=" ".join)
def test_a_shell_that_echoes_the_command_line_does_not_stand_in_the_way(
    bin_dir: Path, shell: tuple[str, ...]
) -> None:
    command = Command.of("cat", sudo=True, stdin=b"own input\n")
    dialogue, stdout, _, code = converse(bin_dir, command, PASSWORD, shell=shell)
    assert dialogue.problem is None
    assert (stdout, code) == (b"own input\n", 0)


def test_the_command_line_displays_neither_prompt_nor_marker() -> None:
    line = SHOWN.wrap(Command.of("true"))
    assert SHOWN.prompt not in line
    assert SHOWN.marker.rstrip() not in line


@pytest.mark.parametrize("shell", ECHOING_SHELLS, ids=" ".join)
def test_an_echo_that_is_cut_anywhere_is_no_prompt(bin_dir: Path, shell: tuple[str, ...]) -> None:
    """The network cuts where it likes."""
    command = Command.of("cat", sudo=True, stdin=b"own input\n")
    words = [*shell, SHOWN.wrap(command)]
    environment = {"PATH": f"{bin_dir}:{os.environ['PATH']}"}
    done = subprocess.run(words, env=environment, capture_output=True, check=False, input=b"")
    echo = done.stderr.partition(SHOWN.prompt.encode())[0]
    assert SHOWN.prompt_argument.encode() in echo or shell == ("sh", "-vc")  # shows nothing
    for place in range(len(echo) + 1):
        exchange = Exchange()
        exchange.hear(echo[:place], echo[place:])
        assert exchange.dialogue.problem is None, echo[:place]


@pytest.mark.parametrize("frame", ["{}", "[sudo: {}] Password: ", "Be careful.\n{}"])
def test_a_sudo_that_displays_its_argument_as_it_stands_gets_no_password(frame: str) -> None:
    exchange = Exchange()
    exchange.hear(frame.format(exchange.dialogue.prompt_argument).encode())
    assert exchange.sent == []
    assert "cannot trust" in str(exchange.dialogue.problem)


def test_a_frame_around_the_prompt_is_no_hindrance() -> None:
    exchange = Exchange()
    exchange.hear(b"[sudo: ", exchange.prompt, b"] Password: ")
    assert exchange.sent == [b"correct horse\n"]


def test_root_needs_no_sudo(tmp_path: Path) -> None:
    program = tmp_path / "id"
    program.write_text("#!/bin/sh\necho 0\n")
    program.chmod(0o755)
    command = Command.of("printf", "%s|", "a b", "", "$HOME", sudo=True)
    dialogue, stdout, _, code = converse(tmp_path, command, None)
    assert dialogue.passed
    assert (stdout, code) == (b"a b||$HOME|", 0)


def test_much_output_right_behind_the_marker_is_the_commands() -> None:
    dialogue = SudoDialogue(None, lambda data: None)
    marker = dialogue.marker.encode()
    data = b"warning: locale\n" + marker + b"x" * 70_000
    assert dialogue.receive(data).endswith(b"x" * 70_000)
    assert dialogue.problem is None
