# What rigup does to a fresh Debian host, by hand. Run as root by `sh -s`, behind assignments of:
# LOGIN, DRIVER_URI, TOOLKIT_URI, KEY_URL, DRIVER_BRANCH, DOCKER_PACKAGES, AGENT (its digest);
# DAEMON_JSON, BOOT_UNIT, PROVE, AGENT_BASE64 (texts).
set -eu
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l

apt() {
  apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold "$@"
}

add_source() {  # NAME URI
  mkdir -p /etc/apt/keyrings
  /usr/lib/apt/apt-helper download-file "$KEY_URL" "/etc/apt/keyrings/$1.asc"
  printf 'Types: deb\nURIs: %s\nSuites: /\nSigned-By: /etc/apt/keyrings/%s.asc\n' "$2" "$1" \
    >"/etc/apt/sources.list.d/$1.sources"
}

# Docker
apt update
apt install -y $DOCKER_PACKAGES
systemctl enable --now docker.service
usermod -aG docker "$LOGIN"

# Driver
add_source rigup-nvidia "$DRIVER_URI"
apt update
apt install -y "nvidia-driver-pinning-$DRIVER_BRANCH"
apt install -y nvidia-open
apt-mark hold $(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' '*nvidia*' | sed -n 's/^ii *//p')
systemctl add-wants multi-user.target nvidia-persistenced.service
systemctl restart nvidia-persistenced.service

# Container toolkit
add_source rigup-container_toolkit "$TOOLKIT_URI"
apt update
apt install -y nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools \
  libnvidia-container1
[ -z "$DAEMON_JSON" ] || printf %s "$DAEMON_JSON" >/etc/docker/daemon.json
nvidia-ctk runtime configure --runtime=docker
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
