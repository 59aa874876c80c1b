package bgp

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/policy"
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
func (s *Speaker) Paths(ctx context.Context, prefix netip.Prefix) []PathInfo {
	s.mu.Lock()
	engine := s.engine
	s.mu.Unlock()
	if engine == nil || !prefix.IsValid() {
		return nil
	}
	family := apiFamily(IPv4)
	if prefix.Addr().Is6() {
		family = apiFamily(IPv6)
	}
	var list []PathInfo
	err := engine.ListPath(ctx, &api.ListPathRequest{
		TableType: api.TableType_GLOBAL, Family: family,
		Prefixes: []*api.TableLookupPrefix{{Prefix: prefix.Masked().String(), Type: api.TableLookupPrefix_EXACT}},
	}, func(d *api.Destination) {
		for _, p := range d.GetPaths() {
			list = append(list, s.pathInfo(prefix.Masked(), p))
		}
	})
	if err != nil {
		s.log.Warn("look-up of paths did not succeed", "prefix", prefix, "error", err)
	}
	return list
}

func (s *Speaker) pathInfo(prefix netip.Prefix, p *api.Path) PathInfo {
	attrs, err := apiutil.GetNativePathAttributes(p)
	if err != nil {
		s.log.Warn("attributes of a path not understood", "prefix", prefix, "error", err)
	}
	info := PathInfo{
		Prefix: prefix, NextHop: nextHopOf(attrs), LocalPref: 100, Stale: p.GetStale(), Best: p.GetBest(),
		Age: time.Since(p.GetAge().AsTime()).Truncate(time.Second),
	}
	if peer, err := netip.ParseAddr(p.GetNeighborIp()); err == nil {
		info.Peer, info.EBGP = peer.Unmap(), p.GetSourceAsn() != s.cfg.ASN
	} else {
		info.Own = true
	}
	for _, a := range attrs {
		info.attribute(a)
	}
	return info
}

func (i *PathInfo) attribute(a bgp.PathAttributeInterface) {
	switch a := a.(type) {
	case *bgp.PathAttributeOrigin:
		i.Origin = policy.Origins()[min(a.Value, 2)]
	case *bgp.PathAttributeAsPath:
		i.ASPath = asPathText(a)
	case *bgp.PathAttributeLocalPref:
		i.LocalPref = a.Value
	case *bgp.PathAttributeMultiExitDisc:
		i.MED = a.Value
	case *bgp.PathAttributeOriginatorId:
		i.OriginatorID, _ = netip.AddrFromSlice(a.Value.To4())
	case *bgp.PathAttributeClusterList:
		for _, id := range a.Value {
			if addr, ok := netip.AddrFromSlice(id.To4()); ok {
				i.ClusterList = append(i.ClusterList, addr)
			}
		}
	case *bgp.PathAttributeCommunities:
		for _, c := range a.Value {
			i.Communities = append(i.Communities, policy.StandardText(c))
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
		if seg.GetType() == bgp.BGP_ASPATH_ATTR_TYPE_SET {
			parts = append(parts, "{"+strings.Join(list, ",")+"}")
			continue
		}
		parts = append(parts, strings.Join(list, " "))
	}
	return strings.Join(parts, " ")
}
