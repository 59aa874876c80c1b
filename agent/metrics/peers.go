package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
)

// peerMetrics are the metrics of sessions.
type peerMetrics struct {
	peers, established, gone, refused, faults *prometheus.Desc
	up, state, since, flaps                   *prometheus.Desc
	in, accepted, rejected, advertised        *prometheus.Desc
	peerFaults, bfdUp, bfdDowns               *prometheus.Desc
}

func newPeerMetrics(c *catalogue) peerMetrics {
	return peerMetrics{
		peers:       c.gauge("bgp_peers", "Configured and dynamic BGP peers."),
		established: c.gauge("bgp_peers_established", "BGP sessions in state Established."),
		gone:        c.gauge("bgp_peers_gone", "Dynamic peers that had a session and are listed without one, until they are forgotten."),
		refused:     c.counter("bgp_import_refused_total", "Announcements rejected before any policy: pool (inside a pool, but not a block that the peer may announce), owner (another node's block), next-hop. One that is evaluated again counts again.", among("reason", "pool, owner, next-hop")),
		faults:      c.counter("bgp_faults_total", "Malformed messages of any peer, by their effect; panic: a fault of the agent, contained; withheld: a route that no message to a peer could hold.", faultLabel),
		up:          c.gauge("bgp_peer_up", "1 when the session is Established.", peerLabels...),
		state:       c.gauge("bgp_peer_state", "State of the session as RFC 4273 numbers it (bgpPeerState): 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established.", peerLabels...),
		since:       c.gauge("bgp_peer_last_change_timestamp_seconds", "When the session came up; while it is down, when it was lost or the peer added. In Unix time: its age is time() minus this.", peerLabels...),
		flaps:       c.counter("bgp_peer_flaps_total", "Times the session was lost.", peerLabels...),
		in:          c.gauge("bgp_peer_prefixes_received", "Prefixes received from the peer.", peerLabels...),
		accepted:    c.gauge("bgp_peer_prefixes_accepted", "Prefixes of the peer that the import policy accepts.", peerLabels...),
		rejected:    c.gauge("bgp_peer_prefixes_rejected", "Prefixes of the peer that import rejects: by policy, as a loop, or as another node's.", peerLabels...),
		advertised:  c.gauge("bgp_peer_prefixes_advertised", "Prefixes announced to the peer; absent with more than 32 peers, where counting would cost too much.", peerLabels...),
		peerFaults:  c.counter("bgp_peer_faults_total", "Malformed messages of the peer, by their effect; panic: a fault of the agent, contained; withheld: a route that no message to the peer could hold.", append(slices.Clone(peerLabels), faultLabel)...),
		bfdUp:       c.gauge("bfd_up", "1 when the BFD session to the peer is Up.", peerLabels...),
		bfdDowns:    c.counter("bfd_downs_total", "Times the BFD session to the peer left Up.", peerLabels...),
	}
}

func (m *peerMetrics) collect(s *state.Sessions, out sink) {
	total, established := s.Count()
	out.gauge(m.peers, float64(total))
	out.gauge(m.established, float64(established))
	out.gauge(m.gone, float64(s.Gone()))
	for reason, n := range s.Refused {
		out.counter(m.refused, float64(n), reason)
	}
	eachFault(s.Faults, func(kind string, n uint64) { out.counter(m.faults, float64(n), kind) })
	series := 0
	for _, gone := range []bool{false, true} { // a series of a lost peer is 0, and takes no place of a live one
		for i := range s.Peers {
			p := &s.Peers[i]
			if p.Gone != gone || p.Gone && !p.Seen {
				continue
			}
			if series++; series > maxPeerSeries {
				return
			}
			m.peer(p, out)
		}
	}
}

// states are the states of a session in the order of RFC 4273, which numbers them from 1.
var states = [...]string{"Idle", "Connect", "Active", "OpenSent", "OpenConfirm", state.Established}

// peer sends the series of one peer.
func (m *peerMetrics) peer(p *state.Peer, out sink) {
	labels := []string{p.Name, p.Address.String()}
	out.gauge(m.up, one(p.Up()), labels...)
	out.gauge(m.state, float64(1+slices.Index(states[:], p.State)), labels...)
	if !p.Since.IsZero() {
		out.gauge(m.since, float64(p.Since.UnixMilli())/1000, labels...)
	}
	out.gauge(m.in, float64(p.Received), labels...)
	out.gauge(m.accepted, float64(p.Accepted), labels...)
	out.gauge(m.rejected, float64(max(0, p.Received-p.Accepted)), labels...)
	if p.Advertised >= 0 {
		out.gauge(m.advertised, float64(p.Advertised), labels...)
	}
	out.counter(m.flaps, float64(p.Flaps), labels...)
	eachFault(p.Faults, func(kind string, n uint64) {
		out.counter(m.peerFaults, float64(n), append(slices.Clone(labels), kind)...)
	})
	if p.BFD != nil {
		out.gauge(m.bfdUp, one(p.BFD.State == bfd.Up), labels...)
		out.counter(m.bfdDowns, float64(p.BFD.Downs), labels...)
	}
}

// eachFault names the counts of f as the metrics do.
func eachFault(f bgp.Faults, do func(kind string, n uint64)) {
	do("reset", f.Reset)
	do("withdrawn", f.Withdrawn)
	do("discarded", f.Discarded)
	do("ignored", f.Ignored)
	do("panic", f.Panics)
	do("withheld", f.Withheld)
}
