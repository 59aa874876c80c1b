package gobgp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// ErrNoTables is the error of an unpatched engine for what only a patched one can
// list.
var ErrNoTables = errors.New("the BGP engine is built without onlink's patches, and lists no routes of a peer")

// receivedPath, advertisedPath and updateGroup are the engine's types: aliases,
// because the engine names them by their fields.
type receivedPath = struct {
	Peer                 netip.Addr
	PeerAS               uint32
	Prefix               netip.Prefix
	Attrs                []bgp.PathAttributeInterface
	At                   time.Time
	Loop, Refused, Stale bool
}

type advertisedPath = struct {
	Prefix   netip.Prefix
	Source   netip.Addr
	SourceAS uint32
	Best     []bgp.PathAttributeInterface
	Sent     []bgp.PathAttributeInterface
	At       time.Time
	Pending  bool
	Withheld string
}

type updateGroup = struct {
	Family   bgp.RouteFamily
	Members  []netip.Addr
	Prefixes int
	Behind   int
	Withheld int
}

// tables is an addition of a patched engine: the tables of peers a part at a time,
// update groups, and the sending of ROUTE-REFRESH.
type tables interface {
	ReceivedPrefixes(from netip.Addr, match func(netip.Prefix) bool) ([]netip.Prefix, error)
	EachReceivedOf(from netip.Addr, prefixes []netip.Prefix, fn func(receivedPath)) error
	BestPrefixes(match func(netip.Prefix) bool) ([]netip.Prefix, error)
	EachAdvertised(to netip.Addr, prefixes []netip.Prefix, fn func(advertisedPath)) error
	UpdateGroups(of netip.Addr) ([]updateGroup, error)
	RequestRefresh(from netip.Addr) ([]bgp.RouteFamily, error)
}

// ReceivedPath is a route as a peer announces it (Adj-RIB-In, RFC 4271 section 3.2).
type ReceivedPath struct {
	Peer   netip.Addr
	PeerAS uint32
	Prefix netip.Prefix
	Attrs  Attributes // must not be changed or kept
	At     time.Time
	// Loop: it is not used because it has our AS, router ID or CLUSTER_ID. Refused:
	// import policy or the import check refused it. Stale: it is kept for a peer that
	// restarts.
	Loop, Refused, Stale bool
}

// AdvertisedPath is the best path to a prefix, and its announcement to a peer
// (Adj-RIB-Out). Both attributes must not be changed or kept.
type AdvertisedPath struct {
	Prefix   netip.Prefix
	Source   netip.Addr // the peer that announced the best path; the zero Addr: our own
	SourceAS uint32
	Best     Attributes
	Sent     Attributes // as the peer receives it; nil: it is not announced to the peer
	At       time.Time
	Pending  bool   // not sent yet
	Withheld string // why no message to the peer can hold it
}

// UpdateGroup is the group of peers that share one Adj-RIB-Out of a family, and the
// place of one of them in it.
type UpdateGroup struct {
	Family   Family
	Members  []netip.Addr
	Prefixes int // announced to the group
	Behind   int // changes that were not sent to the peer yet
	Withheld int // prefixes that no message to the members can hold
}

// ReceivedPrefixes returns the prefixes that a peer announces and that match, in no
// order. match runs on the engine's main goroutine. An unpatched engine returns
// [ErrNoTables], as for the methods below.
func (e *Engine) ReceivedPrefixes(from netip.Addr, match func(netip.Prefix) bool) ([]netip.Prefix, error) {
	t, able := any(e.server).(tables)
	if !able {
		return nil, ErrNoTables
	}
	return t.ReceivedPrefixes(from, match)
}

// EachReceivedOf calls fn with the routes of a peer to the prefixes, those of all
// peers for an invalid address, on the engine's main goroutine.
func (e *Engine) EachReceivedOf(from netip.Addr, prefixes []netip.Prefix, fn func(ReceivedPath)) error {
	t, able := any(e.server).(tables)
	if !able {
		return ErrNoTables
	}
	return t.EachReceivedOf(from, prefixes, func(p receivedPath) {
		fn(ReceivedPath{
			Peer: p.Peer, PeerAS: p.PeerAS, Prefix: p.Prefix, Attrs: p.Attrs, At: p.At,
			Loop: p.Loop, Refused: p.Refused, Stale: p.Stale,
		})
	})
}

// BestPrefixes returns the prefixes of the Loc-RIB that match, in no order. match
// runs on the engine's main goroutine.
func (e *Engine) BestPrefixes(match func(netip.Prefix) bool) ([]netip.Prefix, error) {
	t, able := any(e.server).(tables)
	if !able {
		return nil, ErrNoTables
	}
	return t.BestPrefixes(match)
}

// EachAdvertised calls fn with the best paths to the prefixes and their announcement
// to a peer, on the engine's main goroutine.
func (e *Engine) EachAdvertised(to netip.Addr, prefixes []netip.Prefix, fn func(AdvertisedPath)) error {
	t, able := any(e.server).(tables)
	if !able {
		return ErrNoTables
	}
	return t.EachAdvertised(to, prefixes, func(p advertisedPath) {
		fn(AdvertisedPath{
			Prefix: p.Prefix, Source: p.Source, SourceAS: p.SourceAS, Best: p.Best, Sent: p.Sent, At: p.At,
			Pending: p.Pending, Withheld: p.Withheld,
		})
	})
}

// UpdateGroups returns the groups of the session to a peer, one for each family; none
// with an unpatched engine.
func (e *Engine) UpdateGroups(of netip.Addr) ([]UpdateGroup, error) {
	t, able := any(e.server).(tables)
	if !able {
		return nil, nil
	}
	groups, err := t.UpdateGroups(of)
	list := make([]UpdateGroup, 0, len(groups))
	for _, g := range groups {
		list = append(list, UpdateGroup{
			Family: familyOf(g.Family), Members: g.Members, Prefixes: g.Prefixes, Behind: g.Behind, Withheld: g.Withheld,
		})
	}
	return list, err
}

// RequestRefresh sends a ROUTE-REFRESH (RFC 2918) for each family of the session to a
// peer. It returns none for a peer without that capability.
func (e *Engine) RequestRefresh(from netip.Addr) ([]Family, error) {
	t, able := any(e.server).(tables)
	if !able {
		return nil, fmt.Errorf("send ROUTE-REFRESH: %w", ErrNoTables)
	}
	families, err := t.RequestRefresh(from)
	list := make([]Family, 0, len(families))
	for _, f := range families {
		list = append(list, familyOf(f))
	}
	return list, err
}
