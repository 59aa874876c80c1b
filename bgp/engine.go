package bgp

import (
	"runtime/debug"

	"github.com/osrg/gobgp/v3/pkg/server"
)

// engineModule is the module path of the BGP engine.
const engineModule = "github.com/osrg/gobgp/v3"

// Engine returns the name and version of the BGP engine in this binary, as
// the build recorded it, and whether the patches of bgp/engine are in it:
// "gobgp v3.37.0 patched" or "gobgp v3.37.0 unpatched".
func Engine() string {
	state := " unpatched"
	if Patched() {
		state = " patched"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "gobgp (version not recorded in this binary)" + state
	}
	for _, m := range info.Deps {
		if m.Path == engineModule {
			return "gobgp " + m.Version + state
		}
	}
	return "gobgp (version not recorded in this binary)" + state
}

// Patched reports whether the engine in this binary is the patched one. An
// unpatched engine can be made to panic by what a peer sends.
func Patched() bool {
	_, ok := any((*server.BgpServer)(nil)).(bestWatcher)
	return ok
}
