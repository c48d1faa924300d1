"""What a right inventory comes to: settings merged into hosts, and which file is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

import inventory
from inventory import Inventory, InventoryError, find_inventory, load_inventory

EXAMPLE = Path(inventory.__file__).with_name("hosts.example.yaml")


def load(tmp_path: Path, text: str) -> Inventory:
    path = tmp_path / "hosts.yaml"
    path.write_text(text)
    return load_inventory(path, ssh_config=tmp_path / "no-ssh-config")


def test_nearer_settings_win(tmp_path: Path) -> None:
    hosts = load(
        tmp_path,
        """
defaults: {user: base, port: 1, python: py-base, connect_timeout: 5}
groups:
  first: {hosts: [a], user: first, port: 2}
  second: {hosts: [a, b], user: second}
hosts:
  a: {user: own}
  b:
  c:
""",
    ).hosts
    assert [(h.user, h.port, h.groups) for h in hosts.values()] == [
        ("own", 2, ("first", "second")),
        ("second", 1, ("second",)),
        ("base", 1, ()),
    ]
    assert {h.python for h in hosts.values()} == {"py-base"}
    assert {h.connect_timeout_s for h in hosts.values()} == {5.0}


def test_a_later_group_wins_over_an_earlier_one(tmp_path: Path) -> None:
    text = "groups: {g: {hosts: [a], user: g}, h: {hosts: [a], user: h}}\nhosts: [a]\n"
    assert load(tmp_path, text).hosts["a"].user == "h"


def test_labels_mirrors_and_container_merge_key_by_key(tmp_path: Path) -> None:
    fingerprint = "0123 4567 89ab cdef 0123  4567 89AB CDEF 0123 4567"
    host = load(
        tmp_path,
        f"""
defaults:
  labels: {{site: here, rack: 1}}
  mirrors:
    python_index: https://all.example/simple
    docker: {{uri: "https://all.example/docker", key_fingerprint: {fingerprint}}}
  container: {{shm_size: 8g, mounts: ["/data:/data"]}}
hosts:
  a:
    labels: {{rack: no}}
    mirrors: {{docker: {{uri: "https://own.example/docker"}}}}
    container: {{mounts: ["/scratch:/scratch:ro"]}}
""",
    ).hosts["a"]
    assert host.labels == {"site": "here", "rack": "no"}
    assert host.mirrors.python_index == "https://all.example/simple"
    assert host.mirrors.docker.uri == "https://own.example/docker"
    assert host.mirrors.docker.key_fingerprint == "0123456789ABCDEF" * 2 + "01234567"
    assert host.mirrors.nvidia.uri is None
    assert host.container.shm_size == "8g"
    assert host.container.mounts == ("/scratch:/scratch:ro",)


def test_the_hosts_of_one_file_do_not_share_labels(tmp_path: Path) -> None:
    text = "defaults: {labels: {x: 1}}\nhosts: {a: {labels: {y: 2}}, b: }\n"
    hosts = load(tmp_path, text).hosts
    assert (hosts["a"].labels, hosts["b"].labels) == ({"x": "1", "y": "2"}, {"x": "1"})


def test_unset_connection_settings_are_left_to_ssh(tmp_path: Path) -> None:
    host = load(tmp_path, "hosts: [gpu01]\n").hosts["gpu01"]
    assert host.address == "gpu01"
    assert (host.user, host.port, host.identity_file, host.jump) == (None, None, None, None)
    assert not host.from_ssh_config


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("address: 2001:db8::7", "address", "2001:db8::7"),
        ("address: fe80::1%eth0", "address", "fe80::1%eth0"),
        ("address: 10.0.0.5", "address", "10.0.0.5"),
        ("user: ml.team@corp", "user", "ml.team@corp"),
        ("port: 65535", "port", 65535),
        ("jump: me@bastion:2222,[2001:db8::1]:22", "jump", "me@bastion:2222,[2001:db8::1]:22"),
        ("jump: none", "jump", "none"),
        ("driver_branch: 580", "driver_branch", "580"),
        ("driver_branch: '580'", "driver_branch", "580"),
        ("state_dir: ~/runs", "state_dir", "runs"),
        ("state_dir: /data/rigup", "state_dir", "/data/rigup"),
        ("python: /opt/venv/bin/python", "python", "/opt/venv/bin/python"),
        ("connect_timeout: 2.5", "connect_timeout_s", 2.5),
        ("connect_timeout: 30s", "connect_timeout_s", 30.0),
        ("command_timeout: 10m", "command_timeout_s", 600.0),
        ("command_timeout: 2h", "command_timeout_s", 7200.0),
    ],
)
def test_value(tmp_path: Path, setting: str, field: str, value: object) -> None:
    host = load(tmp_path, f"hosts:\n  a:\n    {setting}\n").hosts["a"]
    assert getattr(host, field) == value


@pytest.mark.parametrize(
    "image",
    [
        "pytorch/pytorch:2.9.1-cuda13.0-cudnn9-runtime",
        "registry.example:5000/team/image",
        "debian",
        "nvcr.io/nvidia/pytorch@sha256:" + "0" * 64,
    ],
)
def test_image(tmp_path: Path, image: str) -> None:
    host = load(tmp_path, f"hosts: {{a: {{container: {{image: '{image}'}}}}}}\n").hosts["a"]
    assert host.container.image == image


def test_local_paths_expand_home_or_start_at_the_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    hosts = load(
        tmp_path,
        "hosts:\n  a: {identity_file: ~/.ssh/id}\n  b: {identity_file: keys/id}\n"
        "  c: {mirrors: {ca_certificates: [/etc/ca.pem, ca.pem]}}\n",
    ).hosts
    assert hosts["a"].identity_file == Path("/home/me/.ssh/id")
    assert hosts["b"].identity_file == tmp_path / "keys/id"
    assert hosts["c"].mirrors.ca_certificates == (Path("/etc/ca.pem"), tmp_path / "ca.pem")


def test_empty_sections_are_as_if_absent(tmp_path: Path) -> None:
    loaded = load(tmp_path, "defaults:\ngroups:\n  g:\nhosts:\n")
    assert loaded.hosts == {}
    assert loaded.groups["g"].hosts == ()


def test_anchors_and_aliases_may_be_used(tmp_path: Path) -> None:
    hosts = load(tmp_path, "hosts: {a: {labels: &l {x: y}}, b: {labels: *l}}\n").hosts
    assert hosts["b"].labels == {"x": "y"}


def test_no_file_leaves_the_names_of_the_ssh_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host gpu01 gpu02\n")
    loaded = load_inventory(None, ssh_config=config)
    assert loaded.hosts == {}
    assert loaded.source is None
    assert loaded.ssh_names == {"gpu01", "gpu02"}


def test_the_example_loads(tmp_path: Path) -> None:
    loaded = load_inventory(EXAMPLE, ssh_config=tmp_path / "none")
    assert [host.name for host in loaded.select(group="lab")] == ["gpu01", "gpu02"]


def test_the_commented_part_of_the_example_loads_too(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    before, _, closed = text.partition("  # gpu03:")
    uncommented = "\n".join(
        line.replace("  # ", "  ", 1) for line in ("  # gpu03:" + closed).splitlines()
    )
    host = load(tmp_path, before + uncommented).hosts["gpu03"]
    assert host.mirrors.container_registry == "registry.example:5000"


class TestFindInventory:
    """Every place it is looked for, in order."""

    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    @staticmethod
    def file(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("hosts: {}\n")
        return path

    def test_order(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        environ = {"RIGUP_HOME": str(home)}
        assert find_inventory(None, environ) is None
        lab = self.file(home / "lab" / "hosts.yaml")
        assert find_inventory(None, environ) == lab
        own = self.file(home / "hosts.yaml")
        assert find_inventory(None, environ) == own
        self.file(tmp_path / "inventory" / "hosts.yaml")
        assert find_inventory(None, environ) == Path("inventory/hosts.yaml")
        named = self.file(tmp_path / "named.yaml")
        environ["RIGUP_INVENTORY"] = str(named)
        assert find_inventory(None, environ) == named
        explicit = self.file(tmp_path / "explicit.yaml")
        assert find_inventory(explicit, environ) == explicit

    def test_home_directory_is_the_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        own = self.file(tmp_path / ".rigup" / "hosts.yaml")
        assert find_inventory(None, {"RIGUP_INVENTORY": ""}) == own

    @pytest.mark.parametrize(
        ("explicit", "environ", "origin"),
        [
            (Path("gone.yaml"), {}, "--inventory"),
            (None, {"RIGUP_INVENTORY": "gone.yaml"}, "$RIGUP_INVENTORY"),
        ],
    )
    def test_a_named_file_must_exist(
        self, explicit: Path | None, environ: dict[str, str], origin: str
    ) -> None:
        with pytest.raises(InventoryError) as caught:
            find_inventory(explicit, environ)
        assert "gone.yaml" in str(caught.value)
        assert origin in str(caught.value)
        assert caught.value.remedy
