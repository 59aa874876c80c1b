#!/bin/sh
# Before the files go: dpkg calls it with "remove" or "upgrade", rpm with the number of
# versions that stay. An upgrade stops nothing.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
root=${DPKG_ROOT:-} # dpkg --force-script-chrootless
if [ -d "$root/run/systemd/system" ]; then
	systemctl disable --now onlinkd.service || :
fi
if [ -e "$root/etc/cni/net.d/10-onlink.conflist" ]; then
	echo "onlink: the runtime still has /etc/cni/net.d/10-onlink.conflist, whose plugin goes: no pod can start or end here until it is removed" >&2
fi
