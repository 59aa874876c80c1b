// Part of the patch fanout/best-path-sets.

package server

import (
	"net"
	"net/netip"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// bestPath is one path as WatchBestSets tells it. It is an alias of a struct
// without a name so that a program can ask for the method by an interface.
type bestPath = struct {
	ID          uint32
	Peer        netip.Addr
	PeerAS      uint32
	NextHop     netip.Addr
	LinkLocal   netip.Addr
	Communities []uint32
	Stale       bool
}

// bestSetWatcher is one caller of WatchBestSets.
type bestSetWatcher struct {
	set     func(netip.Prefix, []bestPath)
	flush   func()
	scratch []bestPath
	told    bool // set was called since the last flush
}

// WatchBestSets calls set with the full set of best paths of every unicast
// prefix whose set changes (an empty one: the prefix is gone), and flush after
// each batch of such calls. The table as it is has been told when it returns;
// stop returns when no more calls come.
//
// Nothing is queued and nothing converted: both functions run on the server's
// goroutine. They must not block and must not call the server. The slice is
// valid during the call only.
func (s *BgpServer) WatchBestSets(set func(netip.Prefix, []bestPath), flush func()) (stop func()) {
	w := &bestSetWatcher{set: set, flush: flush}
	s.mgmtOperation(func() error {
		s.bestSets = append(s.bestSets, w)
		if s.active() != nil {
			return nil
		}
		if table.UseMultiplePaths.Enabled {
			for _, paths := range s.globalRib.GetBestMultiPathList(table.GLOBAL_RIB_NAME, nil) {
				w.tell(paths...)
			}
		} else {
			for _, p := range s.globalRib.GetBestPathList(table.GLOBAL_RIB_NAME, 0, nil) {
				w.tell(p)
			}
		}
		w.end()
		return nil
	}, false)
	return func() {
		s.mgmtOperation(func() error {
			for i, o := range s.bestSets {
				if o == w {
					s.bestSets = append(s.bestSets[:i:i], s.bestSets[i+1:]...)
					break
				}
			}
			return nil
		}, false)
	}
}

// tellBestSets tells what GetChanges found.
func (s *BgpServer) tellBestSets(best []*table.Path, multipath [][]*table.Path) {
	for _, w := range s.bestSets {
		if table.UseMultiplePaths.Enabled {
			for _, paths := range multipath {
				w.tell(paths...)
			}
			continue
		}
		for _, p := range best {
			if p != nil {
				w.tell(p)
			}
		}
	}
}

// endBestSets ends a batch.
func (s *BgpServer) endBestSets() {
	for _, w := range s.bestSets {
		w.end()
	}
}

func (w *bestSetWatcher) end() {
	if w.told {
		w.told = false
		w.flush()
	}
}

// tell passes on one prefix's set. A withdrawn path stands for no path.
func (w *bestSetWatcher) tell(paths ...*table.Path) {
	if len(paths) == 0 || paths[0] == nil {
		return
	}
	prefix := prefixOfNlri(paths[0].GetNlri())
	if !prefix.IsValid() {
		return
	}
	w.scratch = w.scratch[:0]
	for _, p := range paths {
		if p != nil && !p.IsWithdraw {
			w.scratch = append(w.scratch, newBestPath(p))
		}
	}
	w.told = true
	w.set(prefix, w.scratch)
	clear(w.scratch)
}

func newBestPath(p *table.Path) bestPath {
	hop, linkLocal := p.NextHops()
	source := p.GetSource()
	return bestPath{
		ID: p.GetNlri().PathIdentifier(), Peer: addrOf(source.Address), PeerAS: source.AS,
		NextHop: addrOf(hop), LinkLocal: addrOf(linkLocal),
		Communities: p.SharedCommunities(), Stale: p.IsStale(),
	}
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// prefixOfNlri returns the prefix of a unicast NLRI, else the zero Prefix.
func prefixOfNlri(nlri bgp.AddrPrefixInterface) netip.Prefix {
	switch n := nlri.(type) {
	case *bgp.IPAddrPrefix:
		return netip.PrefixFrom(addrOf(n.Prefix), int(n.Length)).Masked()
	case *bgp.IPv6AddrPrefix:
		if a, ok := netip.AddrFromSlice(n.Prefix.To16()); ok {
			return netip.PrefixFrom(a, int(n.Length)).Masked()
		}
	}
	return netip.Prefix{}
}
