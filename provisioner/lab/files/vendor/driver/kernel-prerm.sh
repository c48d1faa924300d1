#!/bin/sh
set -e
if [ -e /usr/lib/rigup-lab/real-module ]; then
  dkms remove -m nvidia -v @VERSION@ --all || true
  exit 0
fi
[ "$1" = remove ] || exit 0
rm -f "/lib/modules/$(uname -r)/updates/dkms/nvidia.ko"
depmod -a || true
