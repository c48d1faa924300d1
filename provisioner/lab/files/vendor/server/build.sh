#!/bin/sh
# Compile the stand-ins, build every package, index the repositories. Runs in the builder image.
set -eu
cd /src
out=/srv/unsigned

compile() { # VERSION CUDA_MAJOR CUDA_VERSION
  target="artifacts/$1"
  mkdir -p "$target"
  set -- "-DDRIVER_VERSION=\"$1\"" "-DCUDA_MAJOR=\"$2\"" "-DCUDA_VERSION=$3"
  flags="-std=gnu11 -O2 -Wall -Wextra -Werror"
  (
    cd src
    # shellcheck disable=SC2086
    gcc $flags "$@" -fPIC -shared -Wl,-soname,libnvidia-ml.so.1 -o "../$target/libnvidia-ml.so" \
      nvml.c nvml_device.c gpus.c
    # shellcheck disable=SC2086
    gcc $flags "$@" -static -o "../$target/nvidia-smi" smi.c smi_fields.c nvml.c nvml_device.c gpus.c
    # shellcheck disable=SC2086
    gcc $flags "$@" -c -o "../$target/nvidia.ko" nvidia_module.c
  )
  strip "$target/libnvidia-ml.so" "$target/nvidia-smi"
}

while read -r version major cuda; do compile "$version" "$major" "$cuda"; done < drivers.txt

for package in debs/*/; do
  if [ -e "$package/COMPILED" ]; then
    while read -r artifact destination mode; do
      install -D -m "$mode" "artifacts/$artifact" "$package/$destination"
    done < "$package/COMPILED"
    rm "$package/COMPILED"
  fi
  repository=$(cat "$package/REPOSITORY")
  rm "$package/REPOSITORY"
  mkdir -p "built/$repository"
  dpkg-deb --root-owner-group -Zgzip --build "$package" "built/$repository" > /dev/null
done

while read -r path repositories; do
  mkdir -p "$out/$path"
  for repository in $repositories; do cp "built/$repository"/*.deb "$out/$path"; done
  (
    cd "$out/$path"
    apt-ftparchive packages . > Packages
    gzip -k9n Packages
    apt-ftparchive -o APT::FTPArchive::Release::Origin=rigup-lab \
      -o APT::FTPArchive::Release::Label="SIMULATED ${repositories%% *}" release . > /tmp/Release
    mv /tmp/Release Release
  )
done < repositories.txt

# The toolkit and the key are the same for guests with a kernel of their own.
ln -s ../libnvidia-container "$out/guest/libnvidia-container"
ln -s ../key.asc "$out/guest/key.asc"
