"""A guest's disk: one partition, and GRUB in front of it."""

from __future__ import annotations

import struct
from pathlib import Path

SECTOR = 512
FIRST_SECTOR = 2048
"""Where the partition starts, as every partitioning tool aligns it: 1 MiB."""
BOOT_CODE = 440
PARTITION_TABLE = 446
LINUX = 0x83
SIGNATURE = b"\x55\xaa"
NO_GEOMETRY = b"\xfe\xff\xff"


def install_boot_loader(disk: Path, boot: bytes, core: bytes) -> None:
    """Write a partition table and GRUB (its ``boot.img`` and an image of ``grub-mkimage``).

    Both images are made for exactly these places: ``boot.img`` loads sector 1, whose block list
    says that the rest follows. Raises ValueError when the core does not fit.
    """
    if len(core) > (FIRST_SECTOR - 1) * SECTOR:
        raise ValueError(f"GRUB's core is {len(core)} bytes and does not fit before the partition")
    sectors = disk.stat().st_size // SECTOR - FIRST_SECTOR
    with disk.open("r+b") as file:
        file.write(first_sector(boot, sectors))
        file.write(core)


def first_sector(boot: bytes, sectors: int) -> bytes:
    """The master boot record: boot code and one bootable partition of that many sectors."""
    entry = struct.pack("<B3sB3sII", 0x80, NO_GEOMETRY, LINUX, NO_GEOMETRY, FIRST_SECTOR, sectors)
    head = boot[:BOOT_CODE].ljust(PARTITION_TABLE, b"\0")
    return (head + entry).ljust(SECTOR - len(SIGNATURE), b"\0") + SIGNATURE
