"""Finding, deploying and redeploying the agent, on this machine through real shells."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from provisioner.agent.boot_unit import boot_unit
from provisioner.agent.bundle import build_bundle
from provisioner.agent.connect import open_agent
from provisioner.agent.deploy import deploy
from provisioner.command import Command
from provisioner.errors import AgentError
from provisioner.transport.base import Session
from provisioner.transport.local import LocalTransport, ProcessSession


class CountingTransport(LocalTransport):
    def __init__(self) -> None:
        super().__init__("bench")
        self.counts: Counter[str] = Counter()
        self.sessions: list[ProcessSession] = []

    def run(self, command: Command, **others):  # type: ignore[no-untyped-def]
        self.counts["run"] += 1
        return super().run(command, **others)

    def put(self, data: bytes, path: PurePosixPath, *, mode: int = 0o644) -> None:
        self.counts["put"] += 1
        super().put(data, path, mode=mode)

    def open_session(self, command: Command) -> Session:
        self.counts["session"] += 1
        session = ProcessSession(["sh", "-c", command.render()])
        self.sessions.append(session)
        return session


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def transport(home: Path) -> Iterator[CountingTransport]:
    made = CountingTransport()
    yield made
    for session in made.sessions:
        session.close()
        session._drain.join()
        for pipe in (session._process.stdout, session._process.stderr):
            pipe.close()


def test_first_contact_deploys_and_the_next_is_one_round_trip(home, transport):
    with open_agent(transport, ".state dir") as client:
        assert client.hello.agent == build_bundle().digest
        assert client.hello.state_dir == str(home / ".state dir")
    transport.counts.clear()
    with open_agent(transport, ".state dir") as client:
        assert client.jobs() == ()
    assert transport.counts == {"session": 1}


def test_deploy_is_idempotent_and_repairs(home, transport):
    first = deploy(transport, ".rigup")
    assert first.uploaded
    assert Path(first.path) == home / ".rigup/agent" / f"{build_bundle().digest}.pyz"
    assert not deploy(transport, ".rigup").uploaded
    Path(first.path).write_bytes(b"truncated")
    assert deploy(transport, ".rigup").uploaded
    assert Path(first.path).read_bytes() == build_bundle().data


@pytest.mark.parametrize("length", [0, 1, 1000, -22, -1])
def test_an_archive_that_was_cut_short_is_sent_again_by_itself(home, transport, length):
    path = Path(deploy(transport).path)
    path.write_bytes(build_bundle().data[:length])
    with open_agent(transport) as client:
        assert client.jobs() == ()
    assert path.read_bytes() == build_bundle().data


def test_an_archive_of_other_content_is_never_started(home, transport):
    path = Path(deploy(transport).path)
    path.write_text(f"open({str(home / 'ran')!r}, 'w')")
    with open_agent(transport):
        assert not (home / "ran").exists()


def test_a_disk_that_damages_every_upload_is_told(home, transport, monkeypatch):
    def cut(data: bytes, path: PurePosixPath, *, mode: int = 0o644) -> None:
        LocalTransport.put(transport, data[:5000], path, mode=mode)

    monkeypatch.setattr(transport, "put", cut)
    with pytest.raises(AgentError, match="damaged again") as caught:
        open_agent(transport)
    assert caught.value.code == "damaged"


def test_a_state_directory_that_cannot_be_used_is_told(home, transport):
    deploy(transport)
    (home / ".rigup/jobs").write_text("no directory")
    with pytest.raises(AgentError, match=re.escape(str(home / ".rigup/jobs"))) as caught:
        open_agent(transport)
    assert caught.value.code == "state-dir"
    assert "state_dir" in str(caught.value.remedy)


def test_a_stable_name_leads_to_the_version_deployed_last(home, transport):
    current = home / ".rigup/agent/current.pyz"
    deploy(transport)
    assert current.readlink() == Path(f"{build_bundle().digest}.pyz")
    current.unlink()
    current.symlink_to("older.pyz")
    assert not deploy(transport).uploaded
    assert current.resolve() == home / ".rigup/agent" / f"{build_bundle().digest}.pyz"
    assert sorted(path.name for path in current.parent.iterdir()) == sorted(
        [current.name, current.resolve().name]
    )


def test_only_agents_that_nobody_uses_are_deleted(home, transport):
    deploy(transport)
    mine = home / ".rigup/agent" / f"{build_bundle().digest}.pyz"
    forgotten, used = mine.with_name("forgotten.pyz"), mine.with_name("used.pyz")
    long_ago = time.time() - 40 * 86400
    for path in (forgotten, used, mine):
        path.touch()
        os.utime(path, (long_ago, long_ago))
    os.utime(used)
    os.utime(mine.with_name("current.pyz"), (long_ago, long_ago), follow_symlinks=False)
    deploy(transport)
    assert (forgotten.exists(), used.exists(), mine.exists()) == (False, True, True)
    with open_agent(transport):
        assert mine.stat().st_mtime > long_ago + 86400, "a start is a use"


def test_the_boot_units_command_starts_the_dispatcher(home, transport):
    """The words of ExecStart, as systemd would unquote them."""
    deploy(transport)
    (line,) = re.findall(r"ExecStart=(.*)\n", boot_unit().content)
    words = shlex.split(line.replace("$$", "$").replace("%h", str(home)))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (home / ".rigup/jobs").is_dir()


@pytest.mark.parametrize("state_dir", ["~/.rigup", "{tmp}/abs"])
def test_state_dir_may_be_absolute_or_from_home(home, transport, state_dir):
    wanted = state_dir.format(tmp=home)
    with open_agent(transport, wanted) as client:
        assert client.hello.state_dir == wanted.replace("~", str(home))


def test_missing_python_names_the_remedy(home, transport, monkeypatch):
    tools = home / "bin"
    tools.mkdir()
    for name in ("sh", "mkdir", "chmod", "cat"):
        (tools / name).symlink_to(Path("/bin") / name)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(AgentError, match=r"Python >= 3\.8 is missing") as caught:
        open_agent(transport)
    assert "apt-get install python3" in str(caught.value.remedy)


def test_old_python_is_refused_by_the_archive_itself(home, transport, monkeypatch):
    """The common path asks no version: the archive's first lines do."""
    deploy(transport)
    tools = home / "bin"
    tools.mkdir()
    (tools / "python3").write_text(
        "#!/bin/sh\n"
        """printf '{"type":"unavailable","reason":"no-python","detail":"Python 3.6.8"}\\n'\n"""
    )
    (tools / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(AgentError, match=r"3\.6\.8"):
        open_agent(transport)


def test_agent_of_another_age_is_redeployed_once(home, transport):
    """Somebody put a file of the right name and the wrong protocol there."""
    path = home / ".rigup/agent" / f"{build_bundle().digest}.pyz"
    path.parent.mkdir(parents=True)
    path.write_text("""print('{"type":"hello","protocol":0,"agent":"x","boot_id":"y"}')\n""")
    with open_agent(transport) as client:
        assert client.hello.protocol == 1
    assert transport.counts["session"] == 2
