#!/bin/bash
# make dist-check: the packages and the image of the last commit, made twice in one clone
# and once in another one, at another path, by another umask and in another time zone, with
# an empty build cache, are the same bytes; and try.sh tries them. ARCHES says for which
# processors.
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

tools/dist/try.sh "$tmp/a/build/dist"
echo "dist-check: ok"
