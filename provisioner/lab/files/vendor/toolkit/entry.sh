#!/bin/sh
exec /usr/bin/python3 -I -B /usr/lib/rigup-lab/nvidia_toolkit.py "${0##*/}" "$@"
