#!/bin/sh
# Prints the version of this tree, with --commit its last commit, or with --epoch the
# second of it:
#
#   v0.1.0                               a commit with this tag, or the one that added the
#                                        section 0.1.0 to CHANGELOG.md
#   v0.1.0-5-g0123456789ab               the fifth commit after it
#   v0.1.1-0.20261130064500-0123456789ab after it by that file, in a tarball of a commit
#                                        that no tag is before: its time (UTC) and hash
#   v0.0.0-20261130064500-0123456789ab   before the first release
#   ...-dirty                            with changes that are not committed
#   v0.0.0-unknown                       neither git nor what git archive writes
#
# The length of the hash is fixed: git's own choice differs between two clones.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)

# pseudo SECONDS HASH is the version of a commit with no tag before it, after the newest
# release of CHANGELOG.md.
pseudo() {
	base=v0.0.0-
	[ -z "$release" ] || base=v${release%.*}.$((${release##*.} + 1))-0.
	printf '%s%s-%.12s' "$base" "$(date -u -d "@$1" +%Y%m%d%H%M%S)" "$2"
}

# since HASH is the version by the commit that released: the one that added the section.
since() {
	[ -n "$release" ] || return
	from=$(git -C "$root" log --format=%H -S"## $release (" "$1" -- CHANGELOG.md | tail -n 1)
	[ -n "$from" ] || return
	count=$(git -C "$root" rev-list --count "$from..$1")
	[ "$count" -gt 0 ] && printf 'v%s-%s-g%.12s' "$release" "$count" "$1" || echo "v$release"
}

# The newest release, as in "## 0.1.0 (2026-11-30)".
release=$(sed -n 's/^## \([0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*\) (.*/\1/p' "$root/CHANGELOG.md" 2>/dev/null | head -n 1)

# A tree inside of another repository is not that repository's.
if [ -e "$root/.git" ] && head=$(git -C "$root" log -1 --format='%ct %H' 2>/dev/null); then
	seconds=${head% *} hash=${head#* }
	version=$(git -C "$root" describe --tags --match 'v[0-9]*' --abbrev=12 2>/dev/null) || version=$(since "$hash") || version=$(pseudo "$seconds" "$hash")
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
