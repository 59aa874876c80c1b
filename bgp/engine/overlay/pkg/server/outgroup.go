// Part of the patch fanout/update-groups.

package server

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v3/internal/pkg/table"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// Update groups. Peers of one kind (outKey) that the export policy treats
// alike are told the same, except that nobody is told what he said himself.
// Such peers share one outGroup: its log holds every prefix once, in the order
// of the last change, already encoded. A peer is only a place in that log. Its
// sending goroutine encodes what is behind that place into a buffer, packs
// prefixes with the same attributes, and moves on. So
//
//   - a change is filtered and encoded once per group and not once per peer,
//   - what changes while a peer is busy is told in few messages, and once,
//   - a slow peer holds up nobody and costs no memory: it just stands further
//     back in the log, which is never longer than there are prefixes,
//   - what a peer was told is known, so that a new policy can withdraw.
//
// Groups, their members and what is in the log are changed on the server's
// goroutine only.

const (
	// outChunk is about how much is encoded before it is written. All peers at
	// once have such a buffer when many of them change: with 16 KiB a burst of
	// 1,000 clients took 15 MB more.
	outChunk = 8 << 10
	// outLag is how long a busy server may keep changes from the senders to
	// let more of them gather.
	outLag = 5 * time.Millisecond
	// A round to outMany members and more lasts outTurn for each, some twice what
	// writing to it takes, and outRound at most: a change that comes meanwhile is told
	// with those that follow it, and not in a segment of its own to everybody. Without
	// rounds each of 1,000 clients that announce at once was written to 36 times; with
	// rounds of half this length the cold start of 1,500 took 10.5 s, and not 6.4.
	outTurn  = 40 * time.Microsecond
	outMany  = 64
	outRound = 200 * time.Millisecond
	// outSweep is the number of withdrawn prefixes that are not worth a sweep.
	outSweep = 256
)

// outKey is what, besides the export policy, decides what a peer is told.
type outKey struct {
	family         bgp.RouteFamily
	peerType       oc.PeerType
	as             uint32
	configAS       uint32
	localAS        uint32
	client         bool
	cluster        string
	local          string
	removePrivate  oc.RemovePrivateAsOption
	replacePeerAS  bool
	loopOfLocal    bool
	confederation  bool
	llgr           bool
	session        outSession
	policyOfServer string // see table.ExportSignature
}

// outPrefix is a unicast prefix of the group's family.
type outPrefix struct {
	addr [16]byte
	bits uint8
}

// outAttrs are the encoded path attributes that some prefixes share.
type outAttrs struct {
	key   string // in outGroup.attrs
	attrs []byte // all but MP_REACH_NLRI
	reach []byte // MP_REACH_NLRI up to the prefixes; nil: NEXT_HOP is in attrs
	id    uint64
	refs  int
}

// outEntry is what the peers of a group are told of one prefix.
type outEntry struct {
	prefix outPrefix
	attrs  *outAttrs // nil: withdrawn
	seq    uint64    // of the last change
	mark   uint64    // of the evaluation that saw it last
	// source is the router ID of the peer the path is from: peers with this
	// ID are not told. 0: it is our own.
	source uint32
	// displaced: peers with the ID source were told of another path before,
	// which must be withdrawn from them.
	displaced bool
}

// outSlot is a place in the log. It is empty if the entry has moved on.
type outSlot struct {
	entry *outEntry
	seq   uint64
}

// outGroup is the Adj-RIB-Out of peers that are told the same.
type outGroup struct {
	key       outKey
	byID      map[uint32][]*outMember
	members   []*outMember
	evaluated uint64 // generation of the policy the whole table was evaluated under
	partial   bool   // a path was not evaluated, for there was nobody to evaluate it for
	nextSweep int
	withheld  map[outPrefix]outWithheld

	mu        sync.RWMutex // guards all below and the members' places
	log       []outSlot
	seq       uint64
	mark      uint64
	withdrawn int
	entries   map[outPrefix]*outEntry
	attrs     map[string]*outAttrs
	attrsID   uint64
	several   bool // members that can share pieces

	piecesMu sync.Mutex // guards pieces, among those that hold mu for reading
	pieces   []*outPiece
}

// groupable reports whether what a session is told of a family can be told
// by a group.
func (peer *peer) groupable(f bgp.RouteFamily) bool {
	if f != bgp.RF_IPv4_UC && f != bgp.RF_IPv6_UC {
		return false
	}
	peer.fsm.lock.RLock()
	defer peer.fsm.lock.RUnlock()
	mode, negotiated := peer.fsm.rfMap[f]
	_, rtc := peer.fsm.rfMap[bgp.RF_RTC_UC]
	conf := peer.fsm.pConf
	return negotiated && !rtc && mode&bgp.BGP_ADD_PATH_SEND == 0 &&
		!conf.RouteServer.Config.RouteServerClient && conf.Config.Vrf == ""
}

// outKey returns the kind of a peer.
func (s *BgpServer) outKey(peer *peer, f bgp.RouteFamily) outKey {
	llgr, session := peer.isLLGREnabledFamily(f), peer.fsm.outSession()
	peer.fsm.lock.RLock()
	defer peer.fsm.lock.RUnlock()
	conf := peer.fsm.pConf
	k := outKey{
		family: f, peerType: conf.State.PeerType, as: conf.State.PeerAs,
		configAS: conf.Config.PeerAs, localAS: conf.Config.LocalAs,
		client:        conf.RouteReflector.Config.RouteReflectorClient,
		cluster:       string(conf.RouteReflector.State.RouteReflectorClusterId),
		local:         peer.fsm.peerInfo.LocalAddress.String(),
		removePrivate: conf.State.RemovePrivateAs, replacePeerAS: conf.AsPathOptions.State.ReplacePeerAs,
		loopOfLocal: conf.AsPathOptions.Config.AllowAsPathLoopLocal, confederation: conf.IsConfederationMember(peer.fsm.gConf),
		llgr: llgr, session: session,
	}
	k.policyOfServer = s.policy.ExportSignature(peer.fsm.peerInfo.Address)
	return k
}

// advertise tells a peer everything we have of the families, again if it was
// told before. What cannot be told by a group is left to the caller: it
// returns those families.
func (s *BgpServer) advertise(peer *peer, families []bgp.RouteFamily) []bgp.RouteFamily {
	var rest []bgp.RouteFamily
	for _, f := range families {
		if peer.fsm.out == nil || !peer.groupable(f) {
			rest = append(rest, f)
			continue
		}
		if m := peer.fsm.out.member(f); m != nil {
			s.retell(m)
		} else if needToAdvertise(peer) {
			s.join(peer, f)
		}
	}
	return rest
}

// join makes an established peer a member of its group, which it leaves when
// the session ends.
func (s *BgpServer) join(peer *peer, f bgp.RouteFamily) {
	s.regroup()
	key := s.outKey(peer, f)
	var g *outGroup
	for _, o := range s.outGroups[f] {
		if o.key == key {
			g = o
			break
		}
	}
	if g == nil {
		g = &outGroup{
			key: key, partial: true, nextSweep: outSweep, byID: make(map[uint32][]*outMember),
			entries: make(map[outPrefix]*outEntry), attrs: make(map[string]*outAttrs),
			withheld: make(map[outPrefix]outWithheld),
		}
		s.outGroups[f] = append(s.outGroups[f], g)
	}
	m := &outMember{peer: peer, out: peer.fsm.out, id: idOf(peer.routerID()), eor: peer.isGracefulRestartEnabled()}
	g.mu.Lock()
	m.place = g.seq // until the table is complete
	g.mu.Unlock()
	g.add(m)
	if g.partial {
		s.evaluate(g)
	}
	s.enter(m)
	g.mu.Lock()
	m.place, m.joined = 0, g.seq
	g.counted()
	g.mu.Unlock()
	m.out.mu.Lock()
	m.out.members = append(m.out.members[:len(m.out.members):len(m.out.members)], m)
	m.out.mu.Unlock()
	s.othersStale = true
	m.out.signal()
}

func (g *outGroup) add(m *outMember) {
	g.members = append(g.members, m)
	g.byID[m.id] = append(g.byID[m.id], m)
	m.group.Store(g)
}

// remove is the inverse of add. The caller holds g.mu.
func (g *outGroup) remove(m *outMember) {
	is := func(o *outMember) bool { return o == m }
	g.members = slices.DeleteFunc(g.members, is)
	if g.byID[m.id] = slices.DeleteFunc(g.byID[m.id], is); len(g.byID[m.id]) == 0 {
		delete(g.byID, m.id)
	}
	g.counted()
}

// counted follows a changed number of members. The caller holds g.mu.
func (g *outGroup) counted() {
	if g.several = len(g.members) > 1; !g.several {
		g.pieces = nil
	}
}

// retell has a member told everything again, by the policy of now.
func (s *BgpServer) retell(m *outMember) {
	s.regroup()
	g := m.group.Load()
	if g.partial || g.evaluated != s.outGeneration {
		s.evaluate(g)
	}
	g.mu.Lock()
	m.place, m.eor = 0, m.peer.isGracefulRestartEnabled()
	g.mu.Unlock()
	m.out.signal()
}

// leave ends a session's memberships.
func (s *BgpServer) leave(peer *peer) {
	out := peer.fsm.out
	s.othersStale, peer.withheld = true, nil
	if out == nil {
		return
	}
	peer.fsm.out = nil
	peer.tellRoutes()
	for _, m := range out.members {
		g := m.group.Load()
		g.mu.Lock()
		g.remove(m)
		g.mu.Unlock()
		if len(g.members) == 0 {
			f := g.key.family
			s.outGroups[f] = slices.DeleteFunc(s.outGroups[f], func(o *outGroup) bool { return o == g })
			delete(s.outDirty, g)
		}
	}
}

// evaluate brings the whole table into a group. What the policy refuses now is
// withdrawn last: what takes its place has been announced by then.
func (s *BgpServer) evaluate(g *outGroup) {
	g.partial, g.evaluated = false, s.outGeneration
	paths := s.globalRib.GetBestPathList(table.GLOBAL_RIB_NAME, 0, []bgp.RouteFamily{g.key.family})
	// What has the same attributes stands together, and so packs well.
	slices.SortStableFunc(paths, func(a, b *table.Path) int { return cmp.Compare(a.GetHash(), b.GetHash()) })
	g.mark++
	for _, p := range paths {
		if prefix, attrs, ok := s.encode(g, p); ok && attrs != nil {
			s.tell(g, prefix, p, attrs)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entries {
		if e.mark != g.mark && e.attrs != nil {
			g.withdraw(e)
		}
	}
	s.outDirty[g] = struct{}{}
}

// updateOutGroups brings changed best paths into the groups.
func (s *BgpServer) updateOutGroups(f bgp.RouteFamily, best []*table.Path) {
	if len(s.outGroups[f]) == 0 {
		return
	}
	s.regroup()
	for _, g := range s.outGroups[f] {
		for _, p := range best {
			if p != nil {
				s.change(g, p)
			}
		}
		g.sweep()
	}
}

// change brings one changed best path into a group.
func (s *BgpServer) change(g *outGroup, path *table.Path) {
	if prefix, attrs, ok := s.encode(g, path); ok {
		s.tell(g, prefix, path, attrs)
	}
}

// encode returns what a group is to be told of a path; nil: that it is gone.
func (s *BgpServer) encode(g *outGroup, path *table.Path) (prefix outPrefix, attrs *outAttrs, ok bool) {
	if prefix, ok = outPrefixOf(path.GetNlri()); !ok {
		return prefix, nil, false
	}
	why := ""
	if !path.IsWithdraw {
		if m := g.example(idOf(path.GetSource().ID)); m == nil {
			g.partial = true
		} else {
			attrs, why = s.encodeFor(g, m, path, prefix.bits)
		}
	}
	s.withhold(g, prefix, path, why)
	return prefix, attrs, true
}

// tell makes attrs, of a path, what a group is told of a prefix.
func (s *BgpServer) tell(g *outGroup, prefix outPrefix, path *table.Path, attrs *outAttrs) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.set(prefix, idOf(path.GetSource().ID), attrs) {
		if len(s.outDirty) == 0 {
			s.outPace.since = time.Now()
		}
		s.outDirty[g] = struct{}{}
	}
}

// example returns a member that is not the source of a path.
func (g *outGroup) example(source uint32) *outMember {
	for _, m := range g.members {
		if source == 0 || m.id != source {
			return m
		}
	}
	return nil
}

// regroup follows a changed policy: members that it now sees differently go
// into groups of their own, with the place they had. It changes nothing of
// what they have been told; see retell.
func (s *BgpServer) regroup() {
	gen := s.policy.Generation()
	if gen == s.outGeneration {
		return
	}
	s.outGeneration = gen
	for f, groups := range s.outGroups {
		for _, g := range groups {
			parts := make(map[string][]*outMember)
			for _, m := range g.members {
				sig := s.policy.ExportSignature(m.peer.fsm.peerInfo.Address)
				parts[sig] = append(parts[sig], m)
			}
			largest := ""
			for sig, members := range parts {
				if n := len(parts[largest]); len(members) > n || len(members) == n && sig < largest {
					largest = sig
				}
			}
			g.key.policyOfServer = largest
			for sig, members := range parts {
				if sig != largest {
					s.outGroups[f] = append(s.outGroups[f], g.split(sig, members))
				}
			}
		}
	}
}

// split moves members into a copy of their group.
func (g *outGroup) split(sig string, members []*outMember) *outGroup {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := &outGroup{
		key: g.key, byID: make(map[uint32][]*outMember), evaluated: g.evaluated, partial: g.partial,
		nextSweep: g.nextSweep, seq: g.seq, mark: g.mark, withdrawn: g.withdrawn, attrsID: g.attrsID,
		entries: make(map[outPrefix]*outEntry, len(g.entries)), attrs: make(map[string]*outAttrs, len(g.attrs)),
		withheld: maps.Clone(g.withheld),
		several:  len(members) > 1, // before the first of their senders can look
	}
	n.key.policyOfServer = sig
	for key, a := range g.attrs {
		c := *a
		n.attrs[key] = &c
	}
	for _, slot := range g.log {
		if slot.entry.seq != slot.seq {
			continue
		}
		e := *slot.entry
		if e.attrs != nil {
			e.attrs = n.attrs[e.attrs.key]
		}
		n.entries[e.prefix] = &e
		n.log = append(n.log, outSlot{entry: &e, seq: e.seq})
	}
	for _, m := range members {
		g.remove(m)
		n.add(m)
	}
	return n
}

// outPace spaces the rounds in which the senders are woken.
type outPace struct {
	since time.Time   // when the first group became dirty
	next  time.Time   // until then the senders are busy with the round before
	timer *time.Timer // wakes a server that has nothing else to do at next
}

// flushOut tells the senders that there is news, at once when the server has
// nothing else to do and the last round is over.
func (s *BgpServer) flushOut(idle bool) {
	if len(s.outDirty) == 0 {
		return
	}
	now, pace := time.Now(), &s.outPace
	if !idle && now.Sub(pace.since) < outLag {
		return
	}
	if wait := pace.next.Sub(now); wait > 0 {
		switch {
		case !idle:
		case pace.timer == nil:
			pace.timer = time.AfterFunc(wait, s.inbox.signal)
		default:
			pace.timer.Reset(wait)
		}
		return
	}
	told := 0
	for g := range s.outDirty {
		for _, m := range g.members {
			m.out.signal()
		}
		told += len(g.members)
	}
	if told >= outMany {
		pace.next = now.Add(min(time.Duration(told)*outTurn, outRound))
	}
	clear(s.outDirty)
}

// peersOutside returns the peers that may have to be told something, and not
// by a group alone.
func (s *BgpServer) peersOutside() []*peer {
	if !s.othersStale {
		return s.others
	}
	s.others, s.othersStale = s.others[:0], false
	for _, p := range s.neighborMap {
		grouped := p.fsm.out != nil
		for _, f := range p.negotiatedRFList() {
			grouped = grouped && p.fsm.out.member(f) != nil
		}
		if !grouped && p.mayBeTold() {
			s.others = append(s.others, p)
		}
	}
	return s.others
}

// mayBeTold reports whether the peer's session is up, or was to keep count of
// paths (RFC 7911).
func (peer *peer) mayBeTold() bool {
	peer.fsm.lock.RLock()
	defer peer.fsm.lock.RUnlock()
	for _, mode := range peer.fsm.rfMap {
		if mode&bgp.BGP_ADD_PATH_SEND != 0 {
			return true
		}
	}
	return peer.fsm.state == bgp.BGP_FSM_ESTABLISHED
}

// idOf returns a router ID as a number; 0 if there is none.
func idOf(ip net.IP) uint32 {
	if v4 := ip.To4(); v4 != nil {
		return binary.BigEndian.Uint32(v4)
	}
	return 0
}
