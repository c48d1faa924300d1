#!/bin/sh
# As quick as the real program, which is no script: every look at a host asks for the version.
case "${0##*/} $*" in
  "nvidia-ctk --version" | "nvidia-ctk -v")
    echo "NVIDIA Container Toolkit CLI version $(cat /usr/lib/rigup-lab/toolkit-version) (SIMULATED)"
    exit
    ;;
esac
exec /usr/bin/python3 -I -B /usr/lib/rigup-lab/nvidia_toolkit.py "${0##*/}" "$@"
