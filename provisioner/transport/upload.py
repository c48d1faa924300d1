"""Writing a remote file so that it is either wholly there or not at all."""

from __future__ import annotations

from pathlib import PurePosixPath

from provisioner.command import Command

MAX_FILE_BYTES = 256 << 20

PUT_SCRIPT = """\
set -eu
case $2 in *[4567]) umask 022 ;; *) umask 077 ;; esac
target=$1 mode=$2 size=$3
case $target in -*) target=./$target ;; esac
mkdir -p -- "$(dirname -- "$target")"
temporary="$target.rigup-$$"
trap 'rm -f -- "$temporary"' EXIT
cat > "$temporary"
received=$(wc -c < "$temporary")
[ "$received" -eq "$size" ] || { echo "received $received of $size bytes" >&2; exit 74; }
chmod "$mode" "$temporary"
sync "$temporary" 2>/dev/null || sync
mv -f -- "$temporary" "$target"
trap - EXIT
"""


def put_command(
    data: bytes, path: PurePosixPath, *, mode: int = 0o644, sudo: bool = False
) -> Command:
    """The command that stores ``data`` at ``path``: temporary file beside, fsync, rename.

    Missing directories are made: open to all for a file that all may read, else private.

    The size travels along, so an upload that is cut short never replaces the file.
    """
    return Command.sh(PUT_SCRIPT, str(path), f"{mode:04o}", str(len(data)), sudo=sudo, stdin=data)


def get_command(path: PurePosixPath) -> Command:
    return Command.of("cat", "--", str(path), max_output_bytes=MAX_FILE_BYTES)
