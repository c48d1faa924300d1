# Prints what Docker on this host can do for a job. A part of a larger script: runs in a subshell,
# so it neither ends that script nor changes it.
(
ask() { timeout 15 docker "$@" </dev/null; }

command -v docker >/dev/null 2>&1 || {
    echo 'docker|missing'
    exit 0
}
said=$(ask ps --filter status=running --filter label=rigup.container \
    --filter "label=rigup.uid=$(id -u)" \
    --format 'docker|spec|{{.Label "rigup.spec"}}' 2>&1) || {
    printf '%s\n' "${said:-no answer}" | sed 's/^/docker|refusal|/'
    exit 0
}
echo 'docker|usable'
printf '%s\n' "$said"
ask image ls --no-trunc --digests \
    --format 'docker|image|{{.ID}}|{{.Repository}}|{{.Tag}}|{{.Digest}}' 2>/dev/null || true

printf 'docker|machine|%s\n' "$(uname -m)"

said=$(ask info --format '{{.DockerRootDir}}|{{.DriverStatus}}' 2>/dev/null) || said=
root=${said%%|*}
case $said in
# The containerd image store keeps its layers outside Docker's own folder.
*io.containerd.snapshotter*) [ ! -d /var/lib/containerd ] || root=/var/lib/containerd ;;
esac
case $root in
/*) timeout 5 df -Pk "$root" 2>/dev/null |
    awk -v root="$root" 'NR == 2 { print "docker|disk|" $4 "|" root }' ;;
esac
)
