"""The bytes before the partition, as PC firmware and GRUB read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.lab.guest.disk import FIRST_SECTOR, SECTOR, first_sector, install_boot_loader


def test_the_first_sector_is_boot_code_and_one_bootable_linux_partition() -> None:
    sector = first_sector(b"\xeb" * 512, sectors=0x1000)
    assert len(sector) == SECTOR
    assert sector[:440] == b"\xeb" * 440
    assert sector[440:446] == bytes(6), "no disk signature from the boot code"
    entry = sector[446:462]
    assert entry[0] == 0x80, "bootable"
    assert entry[4] == 0x83, "Linux"
    assert int.from_bytes(entry[8:12], "little") == FIRST_SECTOR
    assert int.from_bytes(entry[12:16], "little") == 0x1000
    assert sector[462:510] == bytes(48), "no other partition"
    assert sector[510:] == b"\x55\xaa"


def test_the_core_follows_and_the_partition_stays_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    partition = b"ext4" * 1024
    disk.write_bytes(bytes(FIRST_SECTOR * SECTOR) + partition)
    install_boot_loader(disk, b"boot", b"core")
    written = disk.read_bytes()
    assert written[:4] == b"boot"
    assert written[SECTOR : SECTOR + 4] == b"core"
    assert written[FIRST_SECTOR * SECTOR :] == partition


def test_a_core_that_would_reach_into_the_partition_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(FIRST_SECTOR * SECTOR))
    with pytest.raises(ValueError, match="does not fit"):
        install_boot_loader(disk, b"boot", bytes(FIRST_SECTOR * SECTOR))
    assert disk.read_bytes() == bytes(FIRST_SECTOR * SECTOR)
