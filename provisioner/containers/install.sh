#!/bin/sh
# The image build's two parts, run as root: `system` (Debian packages) and `packages` (Python).
set -eu

CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
VENV=/opt/venv

main() {
    case "$1" in
    system) install_system ;;
    packages) install_packages ;;
    *) echo "install.sh: expected system or packages, got $1" >&2 && exit 2 ;;
    esac
}

install_system() {
    export DEBIAN_FRONTEND=noninteractive
    if command -v update-ca-certificates >/dev/null; then update-ca-certificates; fi
    apt-get update
    # shellcheck disable=SC2046 # no word when nothing is missing
    apt-get install -y --no-install-recommends \
        bash ca-certificates curl git less openssh-server procps rsync tar tini \
        $(missing_python)
    update-ca-certificates
    # Host keys are made by each container at its first start, never shared through the image.
    rm -rf /etc/ssh/ssh_host_* /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
    groupadd --system rigup
    # Here, not in the other stage: copying a folder keeps the mode of an existing target only.
    install -d -m 2775 -g rigup "$VENV"
}

# A base image's own Python is used as it is; the system's lacks its venv module on Debian.
missing_python() {
    found=$(command -v python || command -v python3 || echo /usr/bin/python3)
    case "$(readlink -f "$found")" in
    /usr/bin/*) echo python3 python3-venv ;;
    esac
}

# An environment on top of the base image's packages: its PyTorch is used when it has one, and
# PEP 668's marker for externally managed packages is left alone.
install_packages() {
    python=$(command -v python || command -v python3)
    "$python" -m venv --system-site-packages "$VENV"
    # shellcheck disable=SC2086 # lists of packages
    PIP_CERT=$CA_BUNDLE PIP_CONFIG_FILE=/tmp/rigup/pip.conf "$VENV/bin/python" -m pip install \
        --no-cache-dir --disable-pip-version-check --find-links /tmp/rigup/wheels \
        ${TORCH:-} ${PACKAGES:-}
    require_torch
    add_torchrun
    # The login user is in this group and may install packages.
    chgrp -R rigup "$VENV"
    chmod -R g+w "$VENV"
    find "$VENV" -type d -exec chmod g+s {} +
}

require_torch() {
    "$VENV/bin/python" -c 'import torch; print("torch", torch.__version__)' && return
    echo "install.sh: the base image has no PyTorch; build with --build-arg TORCH=torch==…" >&2
    exit 1
}

# A torchrun of the base image would start its own Python, without this environment's packages.
add_torchrun() {
    [ -e "$VENV/bin/torchrun" ] && return
    printf '#!%s/bin/python\nfrom torch.distributed.run import main\n\nmain()\n' "$VENV" \
        >"$VENV/bin/torchrun"
    chmod 755 "$VENV/bin/torchrun"
}

main "$@"
