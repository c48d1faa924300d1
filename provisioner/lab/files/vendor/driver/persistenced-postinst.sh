#!/bin/sh
set -e
[ "$1" = configure ] && [ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl enable --quiet nvidia-persistenced.service
systemctl restart nvidia-persistenced.service || true
