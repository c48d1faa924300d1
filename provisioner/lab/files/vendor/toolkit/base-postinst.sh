#!/bin/sh
set -e
[ "$1" = configure ] && [ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl enable --quiet --now nvidia-cdi-refresh.path
systemctl enable --quiet nvidia-cdi-refresh.service
systemctl start nvidia-cdi-refresh.service || true
