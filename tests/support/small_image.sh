# Two images for container jobs, made of a practice host's own files: Python with a shell, and without.
set -e
root=$(mktemp -d)
mkdir -p "$root/usr/bin" "$root/tmp"
chmod 1777 "$root/tmp"
for link in bin lib lib64 sbin; do
    mkdir -p "$root/usr/$link"
    ln -s "usr/$link" "$root/$link"
done
for program in sh python3; do
    cp -L "/usr/bin/$program" "$root/usr/bin/"
    ldd "/usr/bin/$program" | grep -o '/[^ )]*' | while read -r file; do
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
    done
done
ln -s python3 "$root/usr/bin/python"
cp -r "/usr/lib/$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')" "$root/usr/lib/"
tar -C "$root" -c . | docker import - rigup-test/python
rm "$root/usr/bin/sh"
tar -C "$root" -c . | docker import - rigup-test/no-shell
rm -rf "$root"
