#!/bin/sh
# Starts a container of this image: as an SSH server (`sshd`, the default), or any other command.
#
# As an SSH server it expects RIGUP_USER, RIGUP_UID and RIGUP_GID (whose files it will write), the
# public keys in /etc/rigup/ssh/authorized_keys, and keeps its own host key in /var/lib/rigup/ssh.
set -eu

# The login user may write into the first folder of the image's PATH, so root looks elsewhere.
CARRIED_PATH=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin

KEYS=/etc/rigup/ssh/authorized_keys
HOST_KEY=/var/lib/rigup/ssh/ssh_host_ed25519_key
CONFIG=/run/rigup/sshd_config
PROFILE=/etc/profile.d/zz-rigup.sh

main() {
    user=${RIGUP_USER:-root}
    uid=${RIGUP_UID:-0}
    gid=${RIGUP_GID:-0}
    [ "$uid" -eq 0 ] && user=root
    [ "$user" = root ] || make_user
    home=$(getent passwd "$user" | cut -d: -f6)
    make_home
    make_host_key
    mkdir -p -m 755 /run/sshd /run/rigup
    write_config
    write_profile
    [ -e "$KEYS" ] || echo "entrypoint: $KEYS is missing: nobody can log in" >&2
    exec /usr/sbin/sshd -D -e -f "$CONFIG"
}

# The login user has the uid and gid of the host's user, whatever had them in the image.
make_user() {
    getent group "$gid" >/dev/null || groupadd --gid "$gid" "$user" 2>/dev/null ||
        groupadd --gid "$gid" "g$gid"
    holder=$(getent passwd "$uid" | cut -d: -f1)
    if [ -n "$holder" ] && [ "$holder" != "$user" ]; then userdel "$holder"; fi
    if getent passwd "$user" >/dev/null; then
        usermod --uid "$uid" --gid "$gid" --home "/home/$user" --shell /bin/bash "$user"
    else
        useradd --uid "$uid" --gid "$gid" --home-dir "/home/$user" --shell /bin/bash "$user" \
            --no-create-home --no-log-init
    fi
    # No password, and not "locked" either: sshd refuses locked accounts even with a key.
    usermod --password '*' --append --groups rigup "$user"
}

make_home() {
    mkdir -p "$home"
    chown "$uid:$gid" "$home"
    chmod 750 "$home"
    [ -e "$home/.bashrc" ] || fill_home || echo "entrypoint: $home is not as it should be" >&2
}

# As the user: root's cp would write through the user's symbolic links. Docker makes the folders
# above a mount, so they are root's until now.
fill_home() {
    setpriv --reuid "$uid" --regid "$gid" --clear-groups cp -R /etc/skel/. "$home/"
    chown -R "$uid:$gid" "$home"
}

make_host_key() {
    mkdir -p "${HOST_KEY%/*}"
    chmod 700 "${HOST_KEY%/*}"
    # A key without its public half was cut short: make a new one.
    [ -s "$HOST_KEY.pub" ] || rm -f "$HOST_KEY"
    [ -s "$HOST_KEY" ] || ssh-keygen -q -t ed25519 -N '' -C rigup -f "$HOST_KEY"
}

write_config() {
    umask 077
    cat >"$CONFIG" <<CONFIG_END
Port 22
HostKey $HOST_KEY
AuthorizedKeysFile $KEYS
AllowUsers $user
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitEmptyPasswords no
PermitRootLogin $([ "$user" = root ] && echo prohibit-password || echo no)
PermitUserEnvironment no
UsePAM no
UseDNS no
X11Forwarding no
AllowTcpForwarding yes
AcceptEnv LANG LC_*
ClientAliveInterval 30
PrintMotd no
PidFile none
Subsystem sftp internal-sftp
CONFIG_END
    variables=$(carried sshd)
    [ -z "$variables" ] || echo "SetEnv$variables" >>"$CONFIG"
    umask 022
}

# Login shells reset PATH in /etc/profile; this puts the container's own back.
write_profile() {
    carried sh >"$PROFILE"
    chmod 644 "$PROFILE"
}

# The environment that sessions inherit from the container: an explicit list, and nothing whose
# name looks like a secret. Values that sshd_config cannot hold in every version are left out.
carried() {
    CARRIED_PATH=$CARRIED_PATH awk -v form="$1" '
    BEGIN {
        listed = "^(PATH|LD_LIBRARY_PATH|LIBRARY_PATH|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|PIP_CERT"
        listed = listed "|HF_ENDPOINT|PIP_INDEX_URL|PIP_TRUSTED_HOST|(https?|no)_proxy"
        listed = listed "|(HTTPS?|NO)_PROXY|(NVIDIA|CUDA|NCCL)_[A-Z0-9_]+)$"
        for (name in ENVIRON) {
            value = ENVIRON[name == "PATH" ? "CARRIED_PATH" : name]
            if (name !~ listed || name ~ /TOKEN|SECRET|PASS|KEY|CREDENTIAL/) continue
            if (value == "" || value ~ /["\\]/ || value ~ /[[:cntrl:]]/) continue
            if (form == "sshd") { printf " \"%s=%s\"", name, value; continue }
            gsub(/\047/, "\047\\\047\047", value)
            printf "export %s=\047%s\047\n", name, value
        }
    }'
}

if [ "${1:-sshd}" = sshd ]; then main; fi
PATH=$CARRIED_PATH
exec "$@"
