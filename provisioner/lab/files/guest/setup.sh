#!/bin/sh
# Inside the guest's root, while its image is built: packages, two kernels, users, boot loader.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
get() { apt-get install -y -q "$@"; }

update-ca-certificates
apt-get update -q
apt-get upgrade -y -q
get systemd-sysv udev dbus libpam-systemd openssh-server sudo python3 curl gnupg iptables \
  iproute2 kmod procps less initramfs-tools apparmor grub-common grub-pc-bin

# The newest kernel, and the one before it in the same series, which the first boot takes. The seed
# makes the newest one look installed since: a host that was upgraded and not rebooted.
newest=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: linux-image-//p' | head -n 1)
series=$(echo "$newest" | cut -d. -f1,2)
older=$(apt-cache search --names-only "^linux-image-$series[.][^ ]*-amd64\$" | cut -d' ' -f1 |
  sed 's/^linux-image-//' | grep -v -e cloud -e rt-amd64 -e unsigned |
  { cat; echo "$newest"; } | sort -V -u | grep -B1 -x -F -e "$newest" | head -n 1)
[ "$older" != "$newest" ] || { echo "no kernel older than $newest in the archive" >&2; exit 1; }
get "linux-image-$older"
get linux-image-amd64
grub-editenv /boot/grub/grubenv create
grub-editenv /boot/grub/grubenv set next_entry=.old

# What provisioning will install from Debian is fetched ahead, as on practice hosts.
apt-get install -y -q --download-only docker.io dkms linux-headers-amd64 \
  $(apt-cache --names-only search '^docker-cli$' | cut -d' ' -f1)
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin

rm -f /etc/ssh/ssh_host_* /etc/hostname
: > /etc/machine-id
echo '/dev/vda1 / ext4 defaults 0 1' > /etc/fstab
echo 'nameserver 10.0.2.3' > /etc/resolv.conf
useradd --create-home --shell /bin/bash lab
useradd --create-home --shell /bin/bash --groups sudo admin
for user in lab admin; do install -d -m 700 -o "$user" -g "$user" "/home/$user/.ssh"; done
chmod 440 /etc/sudoers.d/lab
systemctl enable rigup-lab-seed.service rigup-lab-gpus.service rigup-lab-coldplug.service \
  systemd-networkd.service ssh.service
systemctl mask systemd-networkd-wait-online.service

grub-mkimage -O i386-pc -o /core.img -c /boot/grub/early.cfg -p '(hd0,msdos1)/boot/grub' \
  biosdisk part_msdos ext2 linux normal configfile loadenv serial terminal test boot
