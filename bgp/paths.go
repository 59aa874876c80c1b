package bgp

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// PathInfo is one path of the Loc-RIB (RFC 4271 section 3.2) in full, for
// operators: what import policy accepted, best first.
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

// Paths returns the paths known for exactly prefix. It is nil before Start
// and for a prefix without a path.
func (s *Speaker) Paths(prefix netip.Prefix) []PathInfo {
	s.mu.Lock()
	engine := s.engine
	s.mu.Unlock()
	if engine == nil || !prefix.IsValid() {
		return nil
	}
	family := bgp.RF_IPv4_UC
	if prefix.Addr().Is6() {
		family = bgp.RF_IPv6_UC
	}
	var list []PathInfo
	err := engine.ListPath(apiutil.ListPathRequest{
		TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: family,
		Prefixes: []*apiutil.LookupPrefix{{Prefix: prefix.Masked().String(), LookupOption: apiutil.LOOKUP_EXACT}},
	}, func(_ bgp.NLRI, paths []*apiutil.Path) {
		for _, p := range paths {
			list = append(list, s.pathInfo(prefix.Masked(), p))
		}
	})
	if err != nil {
		s.log.Warn("look-up of paths did not succeed", "prefix", prefix, "error", err)
	}
	return list
}

func (s *Speaker) pathInfo(prefix netip.Prefix, p *apiutil.Path) PathInfo {
	info := PathInfo{
		Prefix: prefix, NextHop: nextHopOf(p.Attrs), Own: !p.PeerAddress.IsValid(), LocalPref: 100,
		Age: time.Since(time.Unix(p.Age, 0)).Truncate(time.Second), Stale: p.Stale, Best: p.Best,
	}
	if !info.Own {
		info.Peer, info.EBGP = p.PeerAddress.Unmap(), p.PeerASN != s.cfg.ASN
	}
	for _, a := range p.Attrs {
		info.attribute(a)
	}
	return info
}

func (i *PathInfo) attribute(a bgp.PathAttributeInterface) {
	switch a := a.(type) {
	case *bgp.PathAttributeOrigin:
		i.Origin = [...]string{"igp", "egp", "incomplete"}[min(a.Value, 2)]
	case *bgp.PathAttributeAsPath:
		i.ASPath = asPathText(a)
	case *bgp.PathAttributeLocalPref:
		i.LocalPref = a.Value
	case *bgp.PathAttributeMultiExitDisc:
		i.MED = a.Value
	case *bgp.PathAttributeOriginatorId:
		i.OriginatorID = a.Value
	case *bgp.PathAttributeClusterList:
		i.ClusterList = append(i.ClusterList, a.Value...)
	case *bgp.PathAttributeCommunities:
		for _, c := range a.Value {
			i.Communities = append(i.Communities, communityText(c))
		}
	case *bgp.PathAttributeLargeCommunities:
		for _, c := range a.Values {
			i.Communities = append(i.Communities, c.String())
		}
	}
}

// asPathText writes an AS_PATH; sets are put in braces.
func asPathText(a *bgp.PathAttributeAsPath) string {
	var parts []string
	for _, seg := range a.Value {
		var list []string
		for _, as := range seg.GetAS() {
			list = append(list, strconv.FormatUint(uint64(as), 10))
		}
		text := strings.Join(list, " ")
		if seg.GetType() == bgp.BGP_ASPATH_ATTR_TYPE_SET {
			text = "{" + text + "}"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}
