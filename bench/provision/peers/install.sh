# What rigup does to a fresh Debian host, by hand. Run as root by `sh -s`, behind assignments of:
# LOGIN, DRIVER_URI, TOOLKIT_URI, KEY_URL, DRIVER_BRANCH, DOCKER_PACKAGES, AGENT (its digest);
# CDI (the end of daemon.json), BOOT_UNIT, PROVE, AGENT_BASE64 (texts).
set -eu
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l

apt() {
  apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold "$@"
}

add_source() {  # NAME URI
  mkdir -p /etc/apt/keyrings
  /usr/lib/apt/apt-helper download-file "$KEY_URL" "/etc/apt/keyrings/$1.asc"
  chmod 644 "/etc/apt/keyrings/$1.asc"
  printf 'Types: deb\nURIs: %s\nSuites: /\nSigned-By: /etc/apt/keyrings/%s.asc\n' "$2" "$1" \
    >"/etc/apt/sources.list.d/$1.sources"
}

configure_docker() {  # MORE KEYS
  printf '{"log-driver": "json-file", "log-opts": {"max-size": "100m", "max-file": "5"}, %s%s}\n' \
    '"live-restore": true' "$1" >/etc/docker/daemon.json
}

# Docker
apt update
apt install -y $DOCKER_PACKAGES
systemctl enable --now docker.service
usermod -aG docker "$LOGIN"
configure_docker ''
systemctl restart docker.service

# Driver
add_source rigup-nvidia "$DRIVER_URI"
apt update
apt install -y "nvidia-driver-pinning-$DRIVER_BRANCH"
apt install -y nvidia-open
apt-mark hold libnvidia-ml1 nvidia-driver nvidia-driver-cuda nvidia-kernel-common \
  nvidia-kernel-open-dkms nvidia-modprobe nvidia-open nvidia-persistenced

# Container toolkit
add_source rigup-container_toolkit "$TOOLKIT_URI"
apt update
toolkit='nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools
  libnvidia-container1'
apt install -y $toolkit
apt-mark hold $toolkit
configure_docker ', "runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}'"$CDI"
systemctl restart docker.service

# Agent
home=$(getent passwd "$LOGIN" | cut -d: -f6)
units=$home/.config/systemd/user
install -d -o "$LOGIN" -g "$LOGIN" -m 700 "$home/.rigup" "$home/.rigup/agent"
install -d -o "$LOGIN" -g "$LOGIN" "$home/.config" "$home/.config/systemd" "$units" \
  "$units/default.target.wants"
printf %s "$AGENT_BASE64" | base64 -d >"$home/.rigup/agent/$AGENT.pyz"
ln -sfn "$AGENT.pyz" "$home/.rigup/agent/current.pyz"
printf %s "$BOOT_UNIT" >"$units/rigup-agent.service"
ln -sfn ../rigup-agent.service "$units/default.target.wants/rigup-agent.service"
chown -hR "$LOGIN:$LOGIN" "$home/.rigup" "$units"
loginctl enable-linger "$LOGIN"

# Proof: the host's GPUs are in a container, also after a reload of systemd
sh -c "$PROVE" prove 1 1 0 0
