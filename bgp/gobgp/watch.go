package gobgp

import (
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
)

// Path is one path of a prefix's multipath set: an alias, because the engine
// names the type by its fields.
type Path = struct {
	ID          uint32
	Peer        netip.Addr // the zero Addr for our own
	PeerAS      uint32
	NextHop     netip.Addr
	LinkLocal   netip.Addr
	Communities []uint32
	Stale       bool
}

// PeerEvent is a change of a session's state.
type PeerEvent struct {
	Peer    netip.Addr
	State   string // RFC 4271 section 8.2.2: Idle to Established
	Limited bool   // held down by the engine: too many prefixes
	Down    bool   // administratively
}

// Handler receives the engine's events, in their order. It runs on the engine's
// goroutines, which queue without bound: it must not block.
type Handler struct {
	Peer     func(PeerEvent)
	EndOfRIB func(peer netip.Addr, f Family) // RFC 4724 section 2
	// Set receives the whole multipath set of a prefix. It must not keep the slice:
	// the next set may be in the same memory. A path without a peer is our own.
	// Flush ends a batch of sets.
	Set   func(prefix netip.Prefix, paths []Path)
	Flush func()
	Fault func(error) // an event that cannot be decoded
}

// Watch calls h with the present state, and with every change until stop.
func (e *Engine) Watch(h Handler) (stop func(), err error) {
	filter := func(t api.WatchEventRequest_Table_Filter_Type) *api.WatchEventRequest_Table_Filter {
		return &api.WatchEventRequest_Table_Filter{Type: t, Init: true}
	}
	filters := []*api.WatchEventRequest_Table_Filter{filter(api.WatchEventRequest_Table_Filter_EOR)}
	_, native := any(e.server).(bestWatcher)
	if !native {
		filters = append(filters, filter(api.WatchEventRequest_Table_Filter_BEST))
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = e.server.WatchEvent(ctx, &api.WatchEventRequest{
		Peer: &api.WatchEventRequest_Peer{}, Table: &api.WatchEventRequest_Table{Filters: filters},
	}, h.event)
	if err != nil {
		cancel()
		return nil, err
	}
	if !native {
		return cancel, nil
	}
	end := e.WatchSets(h.Set, h.Flush)
	return func() { cancel(); end() }, nil
}

// WatchSets calls set with the whole multipath set of every prefix, and of each
// that changes, until stop; flush ends a batch. Both run on the engine's main
// goroutine. An unpatched engine never calls them.
func (e *Engine) WatchSets(set func(prefix netip.Prefix, paths []Path), flush func()) (stop func()) {
	w, able := any(e.server).(bestWatcher)
	if !able {
		return func() {}
	}
	return w.WatchBestSets(set, flush)
}

func (h *Handler) event(ev *api.WatchEventResponse) {
	if p := ev.GetPeer(); p != nil {
		h.peer(p)
		return
	}
	paths := ev.GetTable().GetPaths()
	if len(paths) == 1 && paths[0].GetNlri() == nil { // the form of an End-of-RIB marker
		if addr, err := netip.ParseAddr(paths[0].GetNeighborIp()); err == nil {
			h.EndOfRIB(addr.Unmap(), familyOf(apiutil.ToRouteFamily(paths[0].GetFamily())))
		}
		return
	}
	h.best(paths)
}

func (h *Handler) peer(ev *api.WatchEventResponse_PeerEvent) {
	st := ev.GetPeer().GetState()
	addr, err := netip.ParseAddr(st.GetNeighborAddress())
	if err != nil || ev.GetType() == api.WatchEventResponse_PeerEvent_END_OF_INIT {
		return
	}
	h.Peer(PeerEvent{
		Peer: addr.Unmap(), State: stateName(st.GetSessionState()),
		Limited: st.GetAdminState() == api.PeerState_PFX_CT, Down: st.GetAdminState() == api.PeerState_DOWN,
	})
}

// best passes on the sets in an unpatched engine's event, in which the best paths
// of one prefix stand together.
func (h *Handler) best(paths []*api.Path) {
	var prefix netip.Prefix // of set; invalid: none yet
	var set []Path
	for _, p := range paths {
		of, path, err := bestOf(p)
		if err != nil {
			h.Fault(fmt.Errorf("best path %s: %w", p, err))
			continue
		}
		if prefix.IsValid() && of != prefix {
			h.Set(prefix, set)
			set = set[:0]
		}
		prefix = of
		if path.Peer.IsValid() {
			set = append(set, path)
		}
	}
	if prefix.IsValid() {
		h.Set(prefix, set)
	}
	h.Flush()
}

// bestOf translates one path of an event. A withdrawn one, or our own, is returned
// without a peer: only its prefix matters.
func bestOf(p *api.Path) (netip.Prefix, Path, error) {
	nlri, err := apiutil.GetNativeNlri(p)
	if err != nil {
		return netip.Prefix{}, Path{}, fmt.Errorf("decode prefix: %w", err)
	}
	prefix, ok := prefixOf(nlri)
	if !ok {
		return netip.Prefix{}, Path{}, fmt.Errorf("%s is no unicast prefix", nlri)
	}
	peer, err := netip.ParseAddr(p.GetNeighborIp())
	if p.GetIsWithdraw() || err != nil {
		return prefix, Path{}, nil //nolint:nilerr // our own paths have no neighbour to parse
	}
	list, err := apiutil.GetNativePathAttributes(p)
	if err != nil {
		return netip.Prefix{}, Path{}, fmt.Errorf("decode attributes: %w", err)
	}
	attrs := Attributes(list)
	return prefix, Path{Peer: peer.Unmap(), PeerAS: p.GetSourceAsn(), NextHop: attrs.NextHop(), Communities: attrs.standard()}, nil
}
