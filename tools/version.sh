#!/bin/sh
# Prints the version of this tree, with --commit its last commit, or with --epoch the
# second of it:
#
#   v0.1.0                               a commit with this tag
#   v0.1.0-5-g0123456789ab               the fifth commit after it
#   v0.0.0-20261130064500-0123456789ab   before the first tag: time (UTC) and commit
#   ...-dirty                            with changes that are not committed
#   v0.0.0-unknown                       neither git nor what git archive writes
#
# The length of the hash is fixed: git's own choice differs between two clones.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)

# pseudo SECONDS HASH is the version of a commit with no tag before it.
pseudo() {
	printf 'v0.0.0-%s-%.12s' "$(date -u -d "@$1" +%Y%m%d%H%M%S)" "$2"
}

# A tree inside of another repository is not that repository's.
if [ -e "$root/.git" ] && head=$(git -C "$root" log -1 --format='%ct %H' 2>/dev/null); then
	seconds=${head% *} hash=${head#* }
	version=$(git -C "$root" describe --tags --match 'v[0-9]*' --abbrev=12 2>/dev/null) || version=$(pseudo "$seconds" "$hash")
	[ -z "$(git -C "$root" status --porcelain --untracked-files=no)" ] || version=$version-dirty
else
	# git archive replaces the first line of this file (.gitattributes).
	read -r seconds hash version <"$root/tools/version.txt" || :
	case $seconds in
	*[!0-9]*) seconds=0 hash= version=v0.0.0-unknown ;;
	*) [ -n "$version" ] || version=$(pseudo "$seconds" "$hash") ;;
	esac
fi

case ${1:-} in
--commit) echo "$hash" ;;
--epoch) echo "$seconds" ;;
'') echo "$version" ;;
*) echo "usage: $0 [--commit | --epoch]" >&2 && exit 2 ;;
esac
