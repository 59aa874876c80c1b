#!/bin/sh
# After the files are gone: dpkg calls it with "remove", "purge" or "upgrade", rpm with a
# number. The database of addresses, /var/lib/onlink, goes on a purge alone, and not while
# pods that have its addresses run: another agent needs it to adopt them.
set -e

root=${DPKG_ROOT:-} # dpkg --force-script-chrootless
if [ -d "$root/run/systemd/system" ]; then
	systemctl daemon-reload || :
fi
[ "$1" = purge ] || exit 0

# The host ends of pods have interface groups of their own (internal/ours): 0x4f4c0000 on.
for group in "$root"/sys/class/net/*/netdev_group; do
	if [ -r "$group" ] && read -r number <"$group" && [ "$number" -ge 1330380800 ] && [ "$number" -lt 1330380816 ]; then
		echo "onlink: pods still run here, so /var/lib/onlink stays; when they are gone: rm -r /var/lib/onlink" >&2
		exit 0
	fi
done
rm -rf --one-file-system "$root/var/lib/onlink"
rmdir "$root/etc/onlink" 2>/dev/null || : # certificates that an operator put there stay
