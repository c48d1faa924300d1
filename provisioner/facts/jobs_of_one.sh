#!/bin/sh
# Prints the jobs of user $2 in the state directory $1 that are, or may be, under way. Runs as that
# user, because what lies there may be anything.
# shellcheck disable=SC3045  # a shell without it has no limit
ulimit -v 2000000 2>/dev/null
LC_ALL=C IFS='
'
dir=$1 user=$2

unread() {
  touched=$(stat -c %Y -- "$1" 2>/dev/null || stat -c %Y -- "${1%/*}" 2>/dev/null)
  printf 'unread|%s|%s|%s\n' "$user" "${1%/*}" "$touched"
}

report() {
  text=$(head -c 65536 -- "$1" 2>/dev/null | tr -d '\n|\000')
  if printf '%s' "$text" | grep -Eq '"state": *"(starting|running)"'; then
    printf 'job|%s|%s|%s\n' "$user" "$1" "$text"
  else
    unread "$1"
  fi
}

check() {
  sizes=$(stat -c '%s %n' -- "$@" 2>/dev/null)
  for file in $(printf '%s\n' "$sizes" | sed -n 's/^[0-9]\{6,\} //p'); do unread "$file"; done
  set -f
  # shellcheck disable=SC2046  # split at newlines only
  set -- $(printf '%s\n' "$sizes" | sed -n 's/^[0-9]\{1,5\} //p')
  set +f
  [ $# -gt 0 ] || return 0
  over=$(grep -lEs '"state": *"(queued|succeeded|failed|stopped|lost)"' -- "$@")
  for file; do
    case "$IFS$over$IFS" in *"$IFS$file$IFS"*) ;; *) report "$file" ;; esac
  done
}

[ -d "$dir/jobs" ] || exit 0
if [ ! -r "$dir/jobs" ] || [ ! -x "$dir/jobs" ]; then unread "$dir/jobs/all"; fi
set --
for job in "$dir"/jobs/*/; do
  job=${job%/} file=${job%/}/state.json
  [ ! -L "$job" ] || continue
  case ${job##*/} in *[!a-z0-9-]*) continue ;; esac
  if [ -f "$file" ] && [ ! -L "$file" ]; then set -- "$@" "$file"; else unread "$file"; fi
  [ $# -lt 200 ] || { check "$@"; set --; }
done
[ $# -eq 0 ] || check "$@"
exit 0
