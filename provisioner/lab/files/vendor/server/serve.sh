#!/bin/sh
# Sign the repositories with this lab's own key (made at the first start, kept on a volume), serve.
set -eu
export GNUPGHOME=/var/lib/rigup-lab-vendor/gnupg
www=/srv/www
mkdir -p "$GNUPGHOME"
chmod 700 "$GNUPGHOME"
if ! gpg --batch --quiet --list-secret-keys rigup-lab > /dev/null 2>&1; then
  gpg --batch --quiet --passphrase '' --quick-generate-key \
    'rigup-lab vendor stand-in <rigup-lab@localhost>' rsa3072 sign never
fi
rm -rf "$www"
cp -r /srv/unsigned "$www"
find "$www" -name Release | while read -r release; do
  gpg --batch --yes --digest-algo SHA512 --clearsign --output "${release%Release}InRelease" "$release"
  gpg --batch --yes --digest-algo SHA512 --armor --detach-sign --output "$release.gpg" "$release"
done
gpg --batch --armor --export rigup-lab > "$www/key.asc"
gpg --batch --with-colons --fingerprint rigup-lab | awk -F: '$1 == "fpr" {print $10; exit}' > "$www/fingerprint.new"
mv "$www/fingerprint.new" "$www/fingerprint"
exec python3 -m http.server --directory "$www" 8000
