// Part of no patch: see EachReceived in pkg/server/received.go.

package table

import "github.com/osrg/gobgp/v3/pkg/packet/bgp"

// Each calls fn with every path of a family, whatever policy said of it.
func (adj *AdjRib) Each(family bgp.RouteFamily, fn func(*Path)) {
	adj.walk([]bgp.RouteFamily{family}, func(_ *adjTable, p *Path) { fn(p) })
}

// Find returns the path to a prefix, without a path identifier, of a family; nil
// when there is none.
func (adj *AdjRib) Find(family bgp.RouteFamily, nlri bgp.AddrPrefixInterface) *Path {
	if t := adj.table[family]; t != nil {
		return t.get(nlri)
	}
	return nil
}

// IsRefused reports whether import policy or the import check refused the path.
func (path *Path) IsRefused() bool { return path.refused }
