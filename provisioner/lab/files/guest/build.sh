#!/bin/sh
# Make a guest's disk. Run as root in a mount namespace of its own.
# FOLDER holds overlay/, setup.sh and mke2fs.conf.
#   build.sh FOLDER SUITE ARCHIVE MIB     leaves FOLDER/disk.raw
set -eu
folder=$1 suite=$2 archive=$3 mib=$4
root=$folder/root

say() { echo "== $*"; }

say "debootstrap of $suite from $archive"
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$archive"

say 'packages and kernels'
rm -f "$root/etc/apt/sources.list"
cp -R "$folder/overlay/." "$root/"
cp "$folder/setup.sh" "$root/setup.sh"
mount --bind /proc "$root/proc"
chroot "$root" sh /setup.sh
umount "$root/proc"
mv "$root/core.img" "$folder/core.img"
cp "$root/usr/lib/grub/i386-pc/boot.img" "$folder/boot.img"
rm "$root/setup.sh"

say 'the disk'
truncate -s "${mib}M" "$folder/disk.raw"
MKE2FS_CONFIG=$folder/mke2fs.conf \
  mke2fs -q -F -t ext4 -d "$root" -E offset=1048576 "$folder/disk.raw" "$((mib - 1))m"
rm -rf "$root"
