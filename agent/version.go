package agent

import "runtime/debug"

// Version is onlink's version. The Makefile sets it from git; a plain
// `go build` leaves it to the module information.
var Version = ""

// version returns Version or the best the build information has.
func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// VersionText returns the version as `onlinkd --version` shows it.
func VersionText() string { return version() }
