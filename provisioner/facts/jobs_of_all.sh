#!/bin/sh
# Prints the jobs of all users that are, or may be, under way: what state directories say, and which
# supervisors run. $1: jobs_of_one.sh; $2, $3: the login user and the state directory.
# A user's files are read as that user; also where root may not, as on NFS with root_squash.
one=$1 login=$2 own=$3
LC_ALL=C IFS='
'

as_user() {
  uid=$1 gid=$2
  shift 2
  if [ "$(id -u)" -ne 0 ] || [ "$uid" -eq 0 ]; then
    timeout 10 "$@"
  elif command -v setpriv >/dev/null; then
    timeout 10 setpriv "--reuid=$uid" "--regid=$gid" --clear-groups -- "$@"
  else
    timeout 10 runuser -u "$(id -nu "$uid")" -- "$@"
  fi
}

look() {
  user=$1 home=$4 dir=$5
  [ "$(id -u)" -eq 0 ] || [ "$(id -u)" -eq "$2" ] || return 0
  if [ ! -d "$dir/jobs" ]; then # root may be shut out of what is there
    [ -d "$home" ] && [ ! -x "$home" ] || return 0
  fi
  as_user "$2" "$3" sh -c "$one" sh "$dir" "$user" </dev/null ||
    printf 'unread|%s|%s|\n' "$user" "$dir/jobs"
}

while IFS=: read -r user _ uid gid _ home _; do
  case $uid$gid in '' | *[!0-9]*) continue ;; esac
  if [ "$user" = "$login" ]; then
    look "$user" "$uid" "$gid" "$home" "$own"
    [ "$own" != "$home/.rigup" ] || continue
  fi
  look "$user" "$uid" "$gid" "$home" "$home/.rigup"
done <<END
$({
  getent passwd
  getent passwd "$login"
} | sort -u)
END

is_over() {
  # shellcheck disable=SC2016  # expanded by the other shell
  as_user "$1" "$2" sh -c '[ -f "$1" ] && [ ! -L "$1" ] && head -c 65536 -- "$1"' sh "$3" 2>/dev/null |
    grep -Eqs '"state": *"(queued|succeeded|failed|stopped|lost)"'
}

# Also users that getent does not list, and state directories that only they know.
# shellcheck disable=SC2013  # no path of /proc holds a space
for file in $(grep -las -e supervise -e recover /proc/[0-9]*/cmdline); do
  process=${file%/cmdline}
  # shellcheck disable=SC2002  # the process may be gone, which a redirection would complain about
  told=$(cat "$file" 2>/dev/null | tr '\000|' '\n ' | awk '
    $0 == "supervise" || $0 == "recover" { mine = 1 }
    last == "--state-dir" { dir = $0 }
    last == "--job" { job = $0 }
    { last = $0 }
    END { if (mine && dir ~ /^\// && job ~ /^[a-z0-9][a-z0-9-]*$/) print dir "/jobs/" job }')
  [ -n "$told" ] || continue
  uid=$(stat -c %u "$process" 2>/dev/null)
  gid=$(stat -c %g "$process" 2>/dev/null)
  [ -n "$gid" ] || continue
  is_over "$uid" "$gid" "$told/state.json" && continue
  printf 'supervised|%s|%s\n' "$(stat -c %U "$process")" "$told"
done
exit 0
