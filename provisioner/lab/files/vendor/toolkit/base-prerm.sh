#!/bin/sh
set -e
[ "$1" = remove ] && [ -d /run/systemd/system ] || exit 0
systemctl disable --now --quiet nvidia-cdi-refresh.path nvidia-cdi-refresh.service || true
rm -f /var/run/cdi/nvidia.yaml
