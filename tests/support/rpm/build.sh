#!/bin/sh
# Build the stand-in RPMs of packages.txt, index and sign the repositories they are in: the vendors'
# with one throwaway key, the distribution's with another. The repositories called forged-* hold the
# same names, signed by a stranger.
set -eu
export GNUPGHOME=/srv/gnupg
www=/srv/www
mkdir -p "$www" && mkdir -p -m 700 "$GNUPGHOME"
for who in vendor distribution stranger; do
  gpg --batch --quiet --passphrase '' --quick-generate-key "SIMULATED $who" rsa3072 sign never
  gpg --batch --armor --export "SIMULATED $who" > "$www/$who.asc"
  gpg --batch --with-colons --fingerprint "SIMULATED $who" |
    awk -F: '$1 == "fpr" {print $10; exit}' > "$www/$who.fingerprint"
done

build() { # REPOSITORY SIGNER NAME EPOCH VERSION RELEASE [REQUIREMENT...]
  repository=$1 signer=$2 name=$3 epoch=$4 version=$5 release=$6
  shift 6
  spec=$(mktemp)
  {
    printf 'Name: %s\nVersion: %s\nRelease: %s\n' "$name" "$version" "$release"
    [ "$epoch" = 0 ] || echo "Epoch: $epoch"
    for requirement in "$@"; do echo "Requires: $(echo "$requirement" | sed 's/=/ = /')"; done
    case $name in
      bash) echo 'Provides: /bin/sh' ;;
      # as SUSE's: without the last number of the release, which `uname -r` does not have
      kernel-default-*) echo "Provides: $name = $version-${release%.*}" ;;
    esac
    printf 'Summary: SIMULATED\nLicense: none\nBuildArch: noarch\nAutoReqProv: no\n'
    printf '%%description\nSIMULATED\n%%post\n'
    # a test that interrupts a transaction makes this file: the scriptlet then waits
    printf '[ ! -e /srv/slow ] || sleep 60\necho "%s" >> /srv/configured\nexit 0\n' "$name"
    printf '%%install\nmkdir -p %%{buildroot}/usr/share/standins\n'
    printf 'echo %s > %%{buildroot}/usr/share/standins/%s-%s\n' "$version" "$name" "$version"
    printf '%%files\n/usr/share/standins/%s-%s\n' "$name" "$version"
  } > "$spec"
  mkdir -p "$www/$repository"
  rpmbuild -bb --quiet --define "_rpmdir $www/$repository" \
    --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' "$spec"
  rpm=$www/$repository/$name-$version-$release.noarch.rpm
  [ "$signer" = nobody ] || rpmsign --define "_gpg_name SIMULATED $signer" --addsign "$rpm" > /dev/null
}

while read -r line; do
  case $line in ''|'#'*) continue ;; esac
  # shellcheck disable=SC2086
  build $line < /dev/null
done < /srv/rpm/packages.txt

cp -r "$www/nvidia-flat" "$www/nvidia-streams"
cp -r "$www/toolkit" "$www/forged-toolkit"
for directory in "$www"/*/; do
  repository=$(basename "$directory")
  case $repository in forged-*) signer=stranger ;; distribution) signer=distribution ;; *) signer=vendor ;; esac
  createrepo_c --quiet "$directory"
  [ "$repository" != nvidia-streams ] ||
    modifyrepo_c --mdtype=modules /srv/rpm/modules.yaml "$directory/repodata" > /dev/null
  gpg --batch --armor --detach-sign --local-user "SIMULATED $signer" "$directory/repodata/repomd.xml"
done
rm -rf /root/rpmbuild
