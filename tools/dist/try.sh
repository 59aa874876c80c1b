#!/bin/bash
# try.sh FOLDER: dpkg installs the deb of this machine's processor in a root folder of its
# own, over an edited configuration, removes and purges it; the rpm has the same files;
# lintian, where it is installed, finds no error. FOLDER is build/dist of a tree after make
# dist.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2 && exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

arch=$(go env GOHOSTARCH) packages=$1
deb=$(echo "$packages"/*_"$arch".deb)
echo "== ${deb##*/} in a root folder"
r=$tmp/root
mkdir -p "$r"/var/lib/dpkg/{info,updates,triggers} "$r/var/log" "$r/var/lib/onlink"
touch "$r/var/lib/dpkg/status" "$r/var/lib/onlink/onlink.db"
run() { dpkg --root="$r" --force-script-chrootless --force-not-root --force-confold --log="$tmp/dpkg.log" "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }; }
there() { [ -e "$r/$1" ] || [ -L "$r/$1" ] || { echo "$1 is missing" >&2 && exit 1; }; }
gone() { [ ! -e "$r/$1" ] || { echo "$1 is left" >&2 && exit 1; }; }
run --install "$deb"
"$r/usr/bin/onlinkd" --version
"$r/usr/bin/onlinkd" --version | grep -qF "version $("$packages/../../tools/version.sh") (commit $("$packages/../../tools/version.sh" --commit | cut -c-12), "
"$r/usr/bin/onlinkd" --check-config --file-only --config "$r/etc/onlink/onlinkd.yaml"
for f in $(dpkg-deb --fsys-tarfile "$deb" | tar -t | grep -v '/$'); do
	there "$f"
done
echo 'bgp: {asn: 64999}' >"$r/etc/onlink/onlinkd.yaml"
run --install "$deb"
grep -q 64999 "$r/etc/onlink/onlinkd.yaml" # an operator's text stays
run --remove onlink
gone usr/bin/onlinkd
there etc/onlink/onlinkd.yaml
there var/lib/onlink/onlink.db
run --purge onlink
gone etc/onlink
grep -q 'pods still run' "$tmp/log" || gone var/lib/onlink

if command -v rpm >/dev/null; then
	echo "== the rpm has the same files"
	for rpm in "$packages"/*.rpm; do
		rpm -K "$rpm"
	done
	case $arch in amd64) name=x86_64 ;; arm64) name=aarch64 ;; *) name=$arch ;; esac
	# Folders for zsh, and what Debian's policy wants alone, differ.
	differ='zsh|lintian|copyright|changelog'
	diff <(rpm -qpl "$packages"/*".$name.rpm" | grep -Ev "$differ" | sort) \
		<(dpkg-deb --fsys-tarfile "$deb" | tar -t | grep -v '/$' | sed 's/^\.//' | grep -Ev "$differ" | sort)
fi
if command -v lintian >/dev/null; then
	echo "== lintian"
	lintian --allow-root --fail-on error "$deb"
fi
