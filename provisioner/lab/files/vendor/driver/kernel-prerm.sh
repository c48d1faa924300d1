#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
rm -f "/lib/modules/$(uname -r)/updates/dkms/nvidia.ko"
depmod -a || true
