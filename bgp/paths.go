package bgp

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"onlink/bgp/gobgp"
)

// PathInfo is one path of the Loc-RIB (RFC 4271 section 3.2), which import policy
// accepted, with all its attributes for operators.
type PathInfo struct {
	Prefix       netip.Prefix
	NextHop      netip.Addr
	Peer         netip.Addr // the zero Addr for our own
	Own          bool       // originated by this node
	EBGP         bool
	ASPath       string // "64513 65001"; "" for our own AS
	LocalPref    uint32 // 100 when the path carries none
	MED          uint32
	Origin       string // igp, egp or incomplete
	OriginatorID netip.Addr
	ClusterList  []netip.Addr
	Communities  []string // standard and large
	Age          time.Duration
	Stale        bool // kept for a peer that restarts (RFC 4724)
	Best         bool // member of the multipath set
}

// Paths returns the paths to exactly prefix, best first. It is nil before Start
// and for a prefix without a path.
func (s *Speaker) Paths(_ context.Context, prefix netip.Prefix) []PathInfo {
	s.mu.Lock()
	engine := s.engine
	s.mu.Unlock()
	if engine == nil || !prefix.IsValid() {
		return nil
	}
	paths, err := engine.Paths(prefix)
	if err != nil {
		s.log.Warn("failed to look up paths", "prefix", prefix, "err", err)
	}
	var list []PathInfo
	for i := range paths {
		list = append(list, pathInfo(prefix.Masked(), &paths[i], s.cfg.ASN))
	}
	return list
}

// pathInfo translates a path of the engine's table.
func pathInfo(prefix netip.Prefix, p *gobgp.TablePath, asn uint32) PathInfo {
	r := p.Attrs.Route(prefix)
	i := PathInfo{
		Prefix: prefix, NextHop: r.NextHop, Peer: p.Peer, Own: !p.Peer.IsValid(), EBGP: p.Peer.IsValid() && p.PeerAS != asn,
		ASPath: r.ASPath, LocalPref: 100, Origin: r.Origin,
		OriginatorID: p.Attrs.OriginatorID(), ClusterList: p.Attrs.ClusterList(),
		Communities: slices.Concat(r.Communities, r.LargeCommunities),
		Age:         p.Age, Stale: p.Stale, Best: p.Best,
	}
	if r.LocalPref != nil {
		i.LocalPref = *r.LocalPref
	}
	if r.MED != nil {
		i.MED = *r.MED
	}
	return i
}
