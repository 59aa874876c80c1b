package gobgp

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"google.golang.org/protobuf/types/known/anypb"
)

// State is the engine's state of one session.
type State struct {
	Address netip.Addr
	Local   netip.Addr // our end; the zero Addr while there is no connection
	ASN     uint32
	Range   string // the Range that accepted it; "": a Neighbor
	Down    bool   // administratively
	// Received counts the peer's prefixes, Accepted those that import accepts,
	// Advertised the prefixes announced to it, with one more for the End-of-RIB
	// marker of each family; AdvertisedIn counts those families.
	Received, Accepted, Advertised, AdvertisedIn int
	// PeerRestart is the peer's restart time in seconds (RFC 4724 section 3).
	PeerRestart uint32
}

// Neighbors calls each with the state of every session. Advertised is counted
// only on demand: the engine evaluates the export policy of every route for it.
func (e *Engine) Neighbors(advertised bool, each func(State)) error {
	return e.list(&api.ListPeerRequest{EnableAdvertised: advertised}, each)
}

// Neighbor returns the state of one session; false when there is none.
func (e *Engine) Neighbor(addr netip.Addr) (st State, ok bool, err error) {
	err = e.list(&api.ListPeerRequest{Address: addr.String()}, func(s State) { st, ok = s, true })
	return st, ok, err
}

func (e *Engine) list(r *api.ListPeerRequest, each func(State)) error {
	return e.server.ListPeer(context.Background(), r, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.GetState().GetNeighborAddress())
		if err != nil {
			return
		}
		st := State{
			Address: addr.Unmap(), ASN: p.GetState().GetPeerAsn(), Down: p.GetState().GetAdminState() == api.PeerState_DOWN,
			PeerRestart: p.GetGracefulRestart().GetPeerRestartTime(),
		}
		if a, err := netip.ParseAddr(p.GetTransport().GetLocalAddress()); err == nil && !a.IsUnspecified() {
			st.Local = a.Unmap()
		}
		if name, ok := strings.CutPrefix(p.GetConf().GetPeerGroup(), groupPrefix); ok {
			st.Range = name
		}
		for _, f := range p.GetAfiSafis() {
			st.Received += int(f.GetState().GetReceived())
			st.Accepted += int(f.GetState().GetAccepted())
			st.Advertised += int(f.GetState().GetAdvertised())
			if f.GetState().GetAdvertised() > 0 {
				st.AdvertisedIn++
			}
		}
		each(st)
	})
}

// Opened is the result of the two OPENs of a session.
type Opened struct {
	ASN             uint32
	RouterID        netip.Addr
	Families        []Family
	GracefulRestart bool // the peer's: End-of-RIB will come
}

// Opened returns the result of the OPENs of the session to addr.
func (e *Engine) Opened(addr netip.Addr) (o Opened, err error) {
	err = e.server.ListPeer(context.Background(), &api.ListPeerRequest{Address: addr.String()}, func(p *api.Peer) {
		o = opened(p.GetState().GetLocalCap(), p.GetState().GetRemoteCap())
		o.RouterID, _ = netip.ParseAddr(p.GetState().GetRouterId())
		o.ASN = p.GetState().GetPeerAsn()
	})
	return o, err
}

func opened(local, remote []*anypb.Any) Opened {
	ours, _ := capabilities(local)
	theirs, restart := capabilities(remote)
	if len(theirs) == 0 {
		theirs = []Family{IPv4} // RFC 4760 section 8: no capability means IPv4 unicast
	}
	o := Opened{GracefulRestart: restart}
	for _, f := range ours {
		if slices.Contains(theirs, f) {
			o.Families = append(o.Families, f)
		}
	}
	return o
}

// capabilities returns the families of an OPEN's capabilities, and whether
// graceful restart is among them. It ignores unknown ones (RFC 5492 section 3).
func capabilities(list []*anypb.Any) (families []Family, gracefulRestart bool) {
	for _, a := range list {
		m, err := a.UnmarshalNew()
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case *api.MultiProtocolCapability:
			if f := familyOf(apiutil.ToRouteFamily(m.GetFamily())); f != 0 {
				families = append(families, f)
			}
		case *api.GracefulRestartCapability:
			gracefulRestart = true
		}
	}
	return families, gracefulRestart
}
