# Usage: prove.sh GPUS RELOAD PRODUCT PROGRAM_BYTES; each of the first three is 1 or 0.
#
# Makes an image from the host's own shell and libraries (and Python, with PRODUCT), so that neither
# a registry nor a download is needed, and runs one container of it. GPUS: the container gets all
# GPUs and lists them; RELOAD: systemd is reloaded while it runs, after which it lists them again;
# PRODUCT: it multiplies matrices. Standard input holds the program for that, then its kernel.
# Prints what the container prints, with marker lines. Leaves nothing behind, also when its reader
# is gone: a signal without a trap would end a shell before its EXIT.
set -eu
gpus=$1 reload=$2 product=$3 program_bytes=$4
scratch=$(mktemp -d)
image=
clean_up() {
  [ ! -s "$scratch/container" ] || docker rm -f "$(cat "$scratch/container")" >/dev/null 2>&1 || true
  [ -z "$image" ] || docker image rm -f "$image" >/dev/null 2>&1 || true
  rm -rf -- "$scratch"
}
trap clean_up EXIT
trap 'exit 1' HUP INT PIPE TERM
root=$scratch/root
mkdir -p "$root/usr/bin" "$root/etc" "$root/proc" "$root/dev" "$root/tmp" "$root/sys" "$root/rigup"
for top in bin sbin lib lib64; do
  if [ -L "/$top" ]; then mkdir -p "$root/usr/$top"; ln -s "usr/$top" "$root/$top"; fi
done

take() {  # a file of the host, with the name that it has there and the one that it really has
  file=$(readlink -f "$1")
  mkdir -p "$root${1%/*}" "$root${file%/*}"
  [ -e "$root$file" ] || cp -p "$file" "$root$file"
  [ -e "$root$1" ] || ln -s "$file" "$root$1"
}
take_libraries_of() {
  ldd "$@" 2>/dev/null | grep -Eo '/[^ :]+' | sort -u >"$scratch/libraries"
  while read -r library; do [ ! -f "$library" ] || take "$library"; done <"$scratch/libraries"
}

shell=$(command -v sh)
take "$shell"
[ -e "$root/bin/sh" ] || take /bin/sh
take_libraries_of "$(readlink -f "$shell")"
libc=$(grep -E '/libc\.so\.6$' "$scratch/libraries" | head -n 1)
for name in libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1; do
  if [ -e "${libc%/*}/$name" ]; then take "${libc%/*}/$name"; fi
done
# NVIDIA's hook looks at this file to know where libraries belong.
[ ! -e /etc/debian_version ] || take /etc/debian_version

if [ "$product" = 1 ]; then
  head -c "$program_bytes" >"$root/rigup/matrix_product.py"
  cat >"$root/rigup/matrix_product.ptx"
  if python=$(command -v python3) && "$python" -I -S - >"$scratch/modules" <<'MODULES'
import __future__, ctypes, encodings.ascii, encodings.latin_1, encodings.utf_8, os, sys
print(os.path.realpath(sys.executable))
print(os.__file__)
for module in list(sys.modules.values()):
    print(getattr(module, "__file__", None) or "")
MODULES
  then
    while read -r file; do [ ! -f "$file" ] || take "$file"; done <"$scratch/modules"
    take_libraries_of $(sed -n '1p; /\.so$/p' "$scratch/modules")
    python=$(head -n 1 "$scratch/modules")
  else
    product=none python=
  fi
fi
image=$(tar -C "$root" -c . | docker import - 2>"$scratch/import") || {
  image=
  cat "$scratch/import" >&2
  exit 1
}

inside='
list() { nvidia-smi -L 2>&1 || echo "nvidia-smi ended with status $?"; }
[ "$1" = 0 ] || list
echo "== listed"
read -r _
[ "$1" = 0 ] || list
echo "== listed again"
case $2 in
  1) "$3" -I -S /rigup/matrix_product.py /rigup/matrix_product.ptx 2>&1 ;;
  none) echo "no python3" ;;
esac
echo "== done"
'
mkfifo "$scratch/in" "$scratch/out"
limit=
command -v timeout >/dev/null && limit="timeout -k 10 120"
options=
[ "$gpus" = 0 ] || options="--gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility"
# The standard input of the container is the only thing that keeps it: it ends with this script.
$limit docker run -i --rm --cidfile "$scratch/container" --network none $options "$image" \
  /bin/sh -c "$inside" sh "$gpus" "$product" "${python-}" <"$scratch/in" >"$scratch/out" &
runner=$!
exec 3>"$scratch/in" 4<"$scratch/out"
while IFS= read -r line <&4; do
  printf '%s\n' "$line"
  if [ "$line" = "== listed" ]; then
    if [ "$reload" = 1 ]; then systemctl daemon-reload && echo "== reloaded"; fi
    echo >&3
  fi
done
exec 3>&-
wait "$runner"
rm -f -- "$scratch/container"
