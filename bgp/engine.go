package bgp

import "runtime/debug"

// enginePath is the module path of the BGP engine.
const enginePath = "github.com/osrg/gobgp/v4"

// Engine returns the name and version of the BGP engine in this binary, as
// the build recorded it: "gobgp v4.8.0".
func (s *Speaker) Engine() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "gobgp (version not recorded in this binary)"
	}
	for _, m := range info.Deps {
		if m.Path != enginePath {
			continue
		}
		if m.Replace != nil {
			return "gobgp " + m.Version + " patched"
		}
		return "gobgp " + m.Version
	}
	return "gobgp (version not recorded in this binary)"
}
