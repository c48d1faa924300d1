"""Whatever the login shell, a command gets exactly its words."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.transport.login_shell import FOREIGN, for_any_shell

SHELLS = ("sh", "bash", "zsh", "fish", "tcsh", "csh", "dash", "ksh")
WORDS = ["it's", "two\nlines\n", "!!", "a\\b\\\\", '$HOME `id` "x"', "größe", "%s %b", "\r"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_passes_the_same_words(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"needs {shell}")
    line = for_any_shell(shlex.join(["printf", "%s|", *WORDS]))
    done = subprocess.run([program, "-c", line], capture_output=True, check=False)
    assert done.stderr == b""
    assert done.stdout.decode() == "".join(f"{word}|" for word in WORDS)


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_any_word_arrives(word: str) -> None:
    line = for_any_shell(shlex.join(["printf", "%s", word]))
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert done.stdout == word.encode()


def test_a_line_that_all_shells_read_alike_stays_as_it_is() -> None:
    line = shlex.join(["python3", "-I", "agent.pyz", "serve", "it's $HOME"])
    assert for_any_shell(line) == line


def test_nothing_is_left_that_a_shell_reads_in_its_own_way() -> None:
    line = for_any_shell("echo '!\n\\'")
    assert not FOREIGN.search(line.replace("\\0", ""))
