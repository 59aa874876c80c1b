package bgp

import (
	"testing"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// checker is what the patches add to the engine's decoder. It is looked for at
// run time, so that this package also builds with the engine as it is.
type checker interface {
	CheckBody(body []byte, families map[bgp.RouteFamily]bgp.BGPAddPathMode, fourOctetAS, external bool) ([]byte, *bgp.MessageError)
}

// needsPatches skips a test of the patched engine in a build with the engine
// as it is, which what these tests send would end.
func needsPatches(t testing.TB) checker {
	t.Helper()
	c, ok := any(new(bgp.BGPUpdate)).(checker)
	if !ok {
		t.Skip("needs the patched engine: use make, or see CONTRIBUTING.md")
	}
	return c
}
