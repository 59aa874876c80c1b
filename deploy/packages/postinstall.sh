#!/bin/sh
# After the files are in place. dpkg calls it with "configure", rpm with the number of
# versions that are installed now.
#
# A first install starts nothing: the agent needs a configuration. An upgrade restarts a
# running agent when its program changed and the new one accepts the configuration; routes,
# tunnels and pods stay meanwhile. ONLINK_RESTART=no leaves the restart to the operator.
set -e

case "$1" in
configure | 1 | 2) ;;
*) exit 0 ;; # dpkg's abort-...: the former files are there again
esac
root=${DPKG_ROOT:-} # dpkg --force-script-chrootless
[ -d "$root/run/systemd/system" ] || exit 0
systemctl daemon-reload || :

pid=$(systemctl show --property=MainPID --value onlinkd.service 2>/dev/null) || pid=0
if [ "${pid:-0}" = 0 ]; then
	if [ "$1" = 1 ] || [ -z "$2" ]; then
		echo "onlink: edit /etc/onlink/onlinkd.yaml, then: systemctl enable --now onlinkd"
	fi
	exit 0
fi

sum() { sha256sum <"$1" 2>/dev/null; }
if [ "$(sum "/proc/$pid/exe")" = "$(sum "$root/usr/bin/onlinkd")" ]; then
	exit 0
fi
# Of the file alone: the running agent has the ports and sockets.
config=$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n -e 's/^--config=//p' -e '/^--config$/{n;p;}' -e '/^-c$/{n;p;}' | head -n 1)
if ! "$root/usr/bin/onlinkd" --check-config --file-only --config "${config:-$root/etc/onlink/onlinkd.yaml}"; then
	echo "onlink: this version rejects the configuration, so the former agent goes on running; mend the file, then: systemctl restart onlinkd" >&2
	exit 0
fi
if [ "$ONLINK_RESTART" = no ]; then
	echo "onlink: the former agent goes on running until: systemctl restart onlinkd"
	exit 0
fi
systemctl restart onlinkd.service || echo "onlink: the agent does not start: systemctl status onlinkd; routes and pods stay as they are" >&2
