"""containerd's root: one line, before the first table."""

from __future__ import annotations

import pytest

from provisioner.containerd_toml import with_root
from provisioner.daemon_json import KeyConflict

VENDORS = '#root = "/var/lib/containerd"\ndisabled_plugins = ["cri"]\n\n[grpc]\n  uid = 0\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, 'version = 2\nroot = "/data/c"\n'),
        ("", 'root = "/data/c"\n'),
        (
            VENDORS,
            '#root = "/var/lib/containerd"\ndisabled_plugins = ["cri"]\n\nroot = "/data/c"\n'
            "[grpc]\n  uid = 0\n",
        ),
        (
            '[plugins.x]\nroot = "/other"\n',
            'root = "/data/c"\n[plugins.x]\nroot = "/other"\n',
        ),
        ('root = "/data/c" # ours\n', None),
        ("root='/data/c'\n", None),
    ],
    ids=[
        "no file",
        "empty",
        "the vendor's",
        "another table's root",
        "there",
        "there, other quotes",
    ],
)
def test_root(before: str | None, after: str | None) -> None:
    assert with_root(before, "/data/c") == after


def test_a_root_of_somebody_else_is_named() -> None:
    with pytest.raises(KeyConflict, match=r"root in /etc/containerd/config.toml.*/srv/c"):
        with_root('version = 2\nroot = "/srv/c"\n', "/data/c")
