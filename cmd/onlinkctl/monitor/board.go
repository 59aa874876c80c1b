package monitor

import (
	"slices"
	"time"

	onlinkv1 "onlink/proto/v1"
)

// board is what is known of the agent: its latest answers, and what follows from them.
// It outlives the connection.
type board struct {
	text Texts

	status   *onlinkv1.Status
	sessions roster
	peers    []*onlinkv1.Peer // the same, those that are not up first
	pools    []*onlinkv1.Pool
	blocks   []*onlinkv1.Block

	details map[string]*detail // by address; of peers that are listed
	routes  meter
	events  history

	latest time.Time // of the latest answer
	failed error     // why there is no connection; nil: there is
	since  time.Time // of failed
	again  time.Time // the next attempt
}

// detail is the latest answer about one peer.
type detail struct {
	at     time.Time
	answer *onlinkv1.PeerDetail
	// rate is UPDATE messages received a second between the latest two answers;
	// negative: there was one answer only.
	rate float64
}

// take takes an answer.
func (b *board) take(a *Answer) {
	if a.Failed != nil {
		b.fail(a)
		return
	}
	b.reached(a.At)
	b.latest = a.At
	if a.Status != nil {
		b.takeStatus(a.At, a.Status)
	}
	if a.Peers != nil {
		b.takePeers(a.At, a.Peers.GetPeers())
	}
	if a.Pools != nil {
		b.pools = a.Pools.GetPools()
	}
	if a.Blocks != nil {
		b.blocks = a.Blocks.GetBlocks()
	}
	if a.Detail != nil {
		b.takeDetail(a.At, a.Detail)
	}
}

// reached notes that there is a connection. An answer of before the failure, kept during
// a pause, proves none.
func (b *board) reached(at time.Time) {
	if b.failed != nil && at.After(b.since) {
		b.events.add(at, event{tone: Good, text: "the agent answers again, after " + b.text.Age(at.Sub(b.since))})
		b.failed = nil
	}
}

// fail notes that there is no connection: one event for an outage, however many
// attempts fail.
func (b *board) fail(a *Answer) {
	if b.failed == nil {
		b.since = a.At
		b.events.add(a.At, event{tone: Bad, text: "no connection: " + a.Failed.Error()})
	}
	b.failed, b.again = a.Failed, a.Again
}

func (b *board) takeStatus(at time.Time, s *onlinkv1.Status) {
	if b.status != nil {
		for _, e := range statusChanges(b.status, s) {
			b.events.add(at, e)
		}
		if restarted(b.status, s) {
			clear(b.details) // its counters begin anew
		}
	}
	b.status = s
	b.routes.note(at, s.GetRoutesUnicast())
}

func (b *board) takePeers(at time.Time, list []*onlinkv1.Peer) {
	is := rosterOf(list)
	if b.sessions.byAddr != nil {
		for _, e := range peerChanges(b.sessions, is) {
			b.events.add(at, e)
		}
	}
	b.sessions, b.peers = is, slices.Clone(list)
	slices.SortStableFunc(b.peers, func(x, y *onlinkv1.Peer) int { return urgency(x) - urgency(y) })
	for address := range b.details {
		if is.byAddr[address] == nil {
			delete(b.details, address) // a flood of strangers would leave theirs
		}
	}
}

// urgency orders sessions: down, gone, up.
func urgency(p *onlinkv1.Peer) int {
	switch {
	case p.GetState() == established:
		return 2
	case p.GetGone():
		return 1
	}
	return 0
}

func (b *board) takeDetail(at time.Time, d *onlinkv1.PeerDetail) {
	address := d.GetPeer().GetAddress()
	one := &detail{at: at, answer: d, rate: -1}
	if old := b.details[address]; old != nil && at.After(old.at) {
		was, is := old.answer.GetReceived().GetUpdate(), d.GetReceived().GetUpdate()
		if is >= was { // less: the agent was started again
			one.rate = float64(is-was) / at.Sub(old.at).Seconds()
		}
	}
	if b.details == nil {
		b.details = map[string]*detail{}
	}
	b.details[address] = one
}

// size returns the addresses of a pool's blocks on this node.
func (b *board) size(pool string) (n uint64) {
	for _, one := range b.blocks {
		if one.GetPool() == pool && !one.GetElsewhere() {
			n += uint64(one.GetSize())
		}
	}
	return n
}
