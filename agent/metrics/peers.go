package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
)

// maxPeerSeries bounds the per-peer time series: a reflector with thousands of
// clients would otherwise flood the monitoring (the totals stay exact).
const maxPeerSeries = 100

// peerMetrics are the metrics of sessions.
type peerMetrics struct {
	peers, established, gone, refused, faults *prometheus.Desc
	up, flaps, in, accepted, advertised       *prometheus.Desc
	peerFaults, bfdUp, bfdDowns               *prometheus.Desc
}

func newPeerMetrics() peerMetrics {
	return peerMetrics{
		peers:       describe("bgp_peers", "Configured and dynamic BGP peers."),
		established: describe("bgp_peers_established", "BGP sessions in state Established."),
		gone:        describe("bgp_peers_gone", "Dynamic peers that had a session and are listed without one, until they are forgotten."),
		refused:     describe("bgp_import_refused_total", "Announcements rejected before any policy: pool (inside a pool, but not a block that the peer may announce), owner (another node's block), next-hop. One that is evaluated again counts again.", "reason"),
		faults:      describe("bgp_faults_total", "Malformed messages of any peer, by their effect; panic: a fault of the agent, contained; withheld: a route that no message to a peer could hold.", "kind"),
		up:          describe("bgp_peer_up", "1 when the session is Established.", "peer", "address"),
		flaps:       describe("bgp_peer_flaps_total", "Times the session was lost.", "peer", "address"),
		in:          describe("bgp_peer_prefixes_received", "Prefixes received from the peer.", "peer", "address"),
		accepted:    describe("bgp_peer_prefixes_accepted", "Prefixes of the peer that the import policy accepts.", "peer", "address"),
		advertised:  describe("bgp_peer_prefixes_advertised", "Prefixes advertised to the peer.", "peer", "address"),
		peerFaults:  describe("bgp_peer_faults_total", "Malformed messages of the peer, by their effect; panic: a fault of the agent, contained; withheld: a route that no message to the peer could hold.", "peer", "address", "kind"),
		bfdUp:       describe("bfd_up", "1 when the BFD session to the peer is Up.", "peer", "address"),
		bfdDowns:    describe("bfd_downs_total", "Times the BFD session to the peer left Up.", "peer", "address"),
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

// peer sends the series of one peer.
func (m *peerMetrics) peer(p *state.Peer, out sink) {
	labels := []string{p.Name, p.Address.String()}
	out.gauge(m.up, one(p.Up()), labels...)
	out.gauge(m.in, float64(p.Received), labels...)
	out.gauge(m.advertised, float64(p.Advertised), labels...)
	out.gauge(m.accepted, float64(p.Accepted), labels...)
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
