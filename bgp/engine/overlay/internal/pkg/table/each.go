// Part of no patch: see EachReceived in pkg/server/received.go.

package table

import "github.com/osrg/gobgp/v3/pkg/packet/bgp"

// Each calls fn with every path of a family, whatever policy said of it.
func (adj *AdjRib) Each(family bgp.RouteFamily, fn func(*Path)) {
	adj.walk([]bgp.RouteFamily{family}, func(_ *adjTable, p *Path) { fn(p) })
}
