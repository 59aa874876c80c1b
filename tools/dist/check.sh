#!/bin/bash
# make dist-check: the packages and the image of the last commit, made twice in one clone
# and once in another one, at another path, by another umask and in another time zone, with
# an empty build cache, are the same bytes; and dpkg installs, upgrades, removes and purges
# the package in a root folder of its own. ARCHES says for which processors.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
arches=${ARCHES:-amd64 arm64}
unset GOFLAGS ONLINK_GOFLAGS VERSION SOURCE_DATE_EPOCH MAKEFLAGS MAKELEVEL
[ -z "$(git status --porcelain --untracked-files=no)" ] || echo "dist-check: changes that are not committed are left out" >&2

tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT # Go's caches are read-only

# build FROM FOLDER NAME makes everything in a clone, and writes the digests to NAME.
build() {
	[ -d "$2" ] || git clone -q "$1" "$2"
	make -s -C "$2" dist image ARCHES="$arches" >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
	(cd "$2" && sha256sum build/dist/onlink* bin/onlink-image.tar) >"$tmp/$3"
}

echo "== in one clone"
build "$PWD" "$tmp/a" first
echo "== in the same clone again"
build "$PWD" "$tmp/a" again
echo "== in another clone, without a build cache"
(umask 077 && export TZ=Pacific/Auckland GOCACHE="$tmp/cache" && build "$tmp/a" "$tmp/longer/path/of/another/clone" other)
diff "$tmp/first" "$tmp/again"
diff "$tmp/first" "$tmp/other"
cat "$tmp/first"

arch=$(go env GOHOSTARCH) packages=$tmp/a/build/dist
deb=$(echo "$packages"/*_"$arch".deb)
echo "== ${deb##*/} in a root folder"
r=$tmp/root
mkdir -p "$r"/var/lib/dpkg/{info,updates,triggers} "$r/var/log" "$r/var/lib/onlink"
touch "$r/var/lib/dpkg/status" "$r/var/lib/onlink/onlink.db"
run() { dpkg --root="$r" --force-script-chrootless --force-not-root --force-confold --log="$tmp/dpkg.log" "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }; }
run --install "$deb"
"$r/usr/bin/onlinkd" --version | tee "$tmp/version"
grep -qF "version $("$tmp/a/tools/version.sh") (commit $(git -C "$tmp/a" rev-parse --short=12 HEAD), " "$tmp/version"
"$r/usr/bin/onlinkd" --check-config --config "$r/etc/onlink/onlinkd.yaml"
for f in $(dpkg-deb --fsys-tarfile "$deb" | tar -t | grep -v '/$'); do
	[ -e "$r/$f" ] || [ -L "$r/$f" ] || { echo "$f is not installed" >&2 && exit 1; }
done
echo 'bgp: {asn: 64999}' >"$r/etc/onlink/onlinkd.yaml"
run --install "$deb"
grep -q 64999 "$r/etc/onlink/onlinkd.yaml" # an operator's text stays
run --remove onlink
[ ! -e "$r/usr/bin/onlinkd" ] && [ -e "$r/etc/onlink/onlinkd.yaml" ] && [ -e "$r/var/lib/onlink/onlink.db" ]
run --purge onlink
[ ! -e "$r/etc/onlink" ] && { [ ! -e "$r/var/lib/onlink" ] || grep -q 'pods still run' "$tmp/log"; }

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
echo "dist-check: ok"
