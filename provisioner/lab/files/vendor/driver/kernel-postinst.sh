#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
if [ -e /usr/lib/rigup-lab/real-module ]; then
  /usr/lib/dkms/common.postinst nvidia @VERSION@ '' '' "$2"
else
  modules="/lib/modules/$(uname -r)"
  install -D -m 644 /usr/src/nvidia-@VERSION@/nvidia.ko "$modules/updates/dkms/nvidia.ko"
  touch "$modules/modules.order" "$modules/modules.builtin"
  depmod -a 2> /dev/null || true
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable --quiet rigup-lab-nvidia-module.service
fi
# As with the real module: one that is loaded stays until the next boot.
/usr/lib/rigup-lab/nvidia-module load || true
if [ -e /dev/nvidiactl ] && systemctl is-enabled --quiet nvidia-persistenced.service 2> /dev/null; then
  systemctl restart nvidia-persistenced.service || true
fi
