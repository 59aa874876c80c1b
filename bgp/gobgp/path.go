package gobgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/policy"
)

// Announce originates r: its prefix with its attributes, next hop included.
func (e *Engine) Announce(r *policy.Route) error {
	p, err := pathOf(r)
	if err != nil {
		return err
	}
	_, err = e.server.AddPath(context.Background(), &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: p})
	return err
}

// Withdraw withdraws a route that Announce originated.
func (e *Engine) Withdraw(r *policy.Route) error {
	p, err := pathOf(r)
	if err != nil {
		return err
	}
	p.IsWithdraw = true
	// Never without a path: that would withdraw all own routes.
	return e.server.DeletePath(context.Background(), &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: p})
}

// pathOf is the engine's form of r.
func pathOf(r *policy.Route) (*api.Path, error) {
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(uint8(max(slices.Index(policy.Origins(), r.Origin), 0)))}
	if r.ASPath != "" {
		path, err := asPathOf(r.ASPath)
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, path)
	}
	nlri := nlriOf(r.Prefix)
	if r.Prefix.Addr().Is4() {
		attrs = append(attrs, bgp.NewPathAttributeNextHop(r.NextHop.String()))
	} else {
		attrs = append(attrs, bgp.NewPathAttributeMpReachNLRI(r.NextHop.String(), []bgp.AddrPrefixInterface{nlri}))
	}
	if r.MED != nil {
		attrs = append(attrs, bgp.NewPathAttributeMultiExitDisc(*r.MED))
	}
	if r.LocalPref != nil {
		attrs = append(attrs, bgp.NewPathAttributeLocalPref(*r.LocalPref))
	}
	communities, err := communityAttributes(slices.Concat(r.Communities, r.LargeCommunities))
	if err != nil {
		return nil, fmt.Errorf("encode prefix %s: %w", r.Prefix, err)
	}
	p, err := apiutil.NewPath(nlri, false, append(attrs, communities...), time.Now())
	if err != nil {
		return nil, fmt.Errorf("encode prefix %s: %w", r.Prefix, err)
	}
	return p, nil
}

// communityAttributes returns the attributes for communities, none for an empty
// list.
func communityAttributes(texts []string) ([]bgp.PathAttributeInterface, error) {
	std, large, err := policy.ParseCommunities(texts)
	if err != nil {
		return nil, err
	}
	var attrs []bgp.PathAttributeInterface
	if len(std) > 0 {
		list := make([]uint32, len(std))
		for i, c := range std {
			list[i] = c.Standard()
		}
		attrs = append(attrs, bgp.NewPathAttributeCommunities(list))
	}
	if len(large) > 0 {
		list := make([]*bgp.LargeCommunity, len(large))
		for i, c := range large {
			list[i] = &bgp.LargeCommunity{ASN: c.Parts[0], LocalData1: c.Parts[1], LocalData2: c.Parts[2]}
		}
		attrs = append(attrs, bgp.NewPathAttributeLargeCommunities(list))
	}
	return attrs, nil
}

// asPathOf reads the text of an AS_PATH: "65001 65002 {65003,65004}".
func asPathOf(text string) (*bgp.PathAttributeAsPath, error) {
	var segments []bgp.AsPathParamInterface
	var seq []uint32
	for f := range strings.FieldsSeq(text) {
		var list []uint32
		for a := range strings.SplitSeq(strings.Trim(f, "{}"), ",") {
			as, err := strconv.ParseUint(a, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("AS_PATH %q: %w", text, err)
			}
			list = append(list, uint32(as))
		}
		if !strings.HasPrefix(f, "{") {
			seq = append(seq, list...)
			continue
		}
		if len(seq) > 0 {
			segments, seq = append(segments, bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, seq)), nil
		}
		segments = append(segments, bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SET, list))
	}
	if len(seq) > 0 {
		segments = append(segments, bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, seq))
	}
	return bgp.NewPathAttributeAsPath(segments), nil
}

// TablePath is one path of the Loc-RIB (RFC 4271 section 3.2).
type TablePath struct {
	Peer        netip.Addr // the zero Addr for our own
	PeerAS      uint32
	RouterID    netip.Addr // of the speaker that announced it
	Attrs       Attributes
	Age         time.Duration
	Stale, Best bool // kept for a peer that restarts; member of the multipath set
}

// Paths returns the paths to exactly prefix, best first. The error may be of
// single paths, which are returned without their attributes.
func (e *Engine) Paths(prefix netip.Prefix) (list []TablePath, err error) {
	family := apiFamily(IPv4)
	if prefix.Addr().Is6() {
		family = apiFamily(IPv6)
	}
	var broken error
	err = e.server.ListPath(context.Background(), &api.ListPathRequest{
		TableType: api.TableType_GLOBAL, Family: family,
		Prefixes: []*api.TableLookupPrefix{{Prefix: prefix.Masked().String(), Type: api.TableLookupPrefix_EXACT}},
	}, func(d *api.Destination) {
		for _, p := range d.GetPaths() {
			attrs, err := apiutil.GetNativePathAttributes(p)
			if err != nil {
				broken = fmt.Errorf("decode attributes: %w", err)
			}
			one := TablePath{
				Attrs: attrs, Stale: p.GetStale(), Best: p.GetBest(), PeerAS: p.GetSourceAsn(),
				Age: time.Since(p.GetAge().AsTime()).Truncate(time.Second),
			}
			if peer, err := netip.ParseAddr(p.GetNeighborIp()); err == nil {
				one.Peer = peer.Unmap()
				one.RouterID, _ = netip.ParseAddr(p.GetSourceId())
			}
			list = append(list, one)
		}
	})
	if err == nil {
		err = broken
	}
	return list, err
}
