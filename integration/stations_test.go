package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// TestStations: collectors of another implementation decode what a node sends, beside
// ToRs that run BIRD and FRR: its peers, the tables before and after import and the
// Loc-RIB are those that onlinkctl lists, after the death of a peer, reloads, and the
// death of a collector, which costs the node nothing.
func TestStations(t *testing.T) {
	t.Parallel()
	for _, kind := range []lab.ToRKind{lab.BIRD, lab.FRR} {
		t.Run(string(kind), func(t *testing.T) {
			ctx, l := labtest.Build(t, lab.Spec{
				Name: "stations-" + string(kind), Racks: 1, NodesPerRack: 2, ToR: kind, DualStack: true,
				Service: netip.MustParsePrefix("172.20.0.0/16"), Pool: lab.Pool{Tunnel: "none", CIDR6: labtest.Pool6},
			})
			s := &stations{T: t, ctx: ctx, n: l.Node("r1n1"), tor: l.ToRs()[0], c: startCollector(t, l, "collector", 213)}
			s.n.Edit = func(c *conf.Config) { c.BGP.BMP = []conf.Station{s.c.station("received", "accepted", "best")} }
			labtest.StartWithPods(ctx, t, l)
			s.alike(s.c)
			s.firstMessages()
			s.importChanges()
			s.peerDies()
			s.collectorDies()
			s.leaves(startCollector(t, l, "archive", 214))
		})
	}
}

// stations is a node with a collector.
type stations struct {
	*testing.T

	ctx context.Context
	n   *lab.Node
	tor *lab.ToR
	c   *collector
}

// eventually waits until check passes of a collector's state.
func (s *stations) eventually(c *collector, what string, check func(*seen) error) {
	s.Helper()
	must(s.T, lab.Eventually(s.ctx, labtest.Patience, what, func() error {
		state, err := c.state()
		if err != nil {
			return err
		}
		return check(state)
	}))
}

// alike waits until the collector has the node's sessions and tables.
func (s *stations) alike(c *collector) {
	s.Helper()
	s.eventually(c, "the node's tables at "+c.host.Name, func(got *seen) error {
		peers, err := s.peers()
		if err != nil {
			return err
		}
		if !got.up[""] || len(got.up) != len(peers)+1 {
			return fmt.Errorf("sessions %v, want those of %v and the Loc-RIB", got.up, peers)
		}
		best, err := s.best()
		if err != nil {
			return err
		}
		errs := []error{sameTable("best", got.tables["best"], best)}
		for _, peer := range peers {
			for view, set := range map[string]onlinkv1.RouteSet{"received": onlinkv1.RouteSet_ROUTE_SET_RECEIVED, "accepted": onlinkv1.RouteSet_ROUTE_SET_ACCEPTED} {
				want, err := s.routes(peer, set)
				if err != nil {
					return err
				}
				errs = append(errs, sameTable(view+" "+peer, got.tables[view+" "+peer], want))
			}
		}
		return errors.Join(errs...)
	})
}

// peers returns the addresses of the sessions that are up.
func (s *stations) peers() ([]string, error) {
	admin, err := s.n.Admin()
	if err != nil {
		return nil, err
	}
	reply, err := admin.ListPeers(s.ctx, &onlinkv1.ListPeersRequest{})
	if err != nil {
		return nil, err
	}
	var list []string
	for _, p := range reply.GetPeers() {
		if p.GetState() == "Established" {
			list = append(list, p.GetAddress())
		}
	}
	return list, nil
}

// routes returns the next hops of a peer's routes as onlinkctl peers lists them.
func (s *stations) routes(peer string, set onlinkv1.RouteSet) (map[netip.Prefix]string, error) {
	admin, err := s.n.Admin()
	if err != nil {
		return nil, err
	}
	stream, err := admin.ListPeerRoutes(s.ctx, &onlinkv1.ListPeerRoutesRequest{Peer: peer, Set: set})
	if err != nil {
		return nil, err
	}
	out := map[netip.Prefix]string{}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		for _, r := range part.GetRoutes() {
			p, err := netip.ParsePrefix(r.GetPrefix())
			if err != nil {
				return nil, err
			}
			out[p] = r.GetNextHop()
		}
	}
}

// best returns the next hops of the best paths as onlinkctl routes PREFIX lists them.
func (s *stations) best() (map[netip.Prefix]string, error) {
	admin, err := s.n.Admin()
	if err != nil {
		return nil, err
	}
	out := map[netip.Prefix]string{}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		reply, err := admin.ListRoutes(s.ctx, &onlinkv1.ListRoutesRequest{Prefix: all, Candidates: true})
		if err != nil {
			return nil, err
		}
		for _, one := range reply.GetCandidates() {
			p, err := netip.ParsePrefix(one.GetPrefix())
			if err != nil {
				return nil, err
			}
			for _, path := range one.GetPaths() {
				if path.GetState() == "best" {
					out[p] = path.GetNextHop()
				}
			}
		}
	}
	return out, nil
}

// firstMessages: the collector knows who sends, and receives reports.
func (s *stations) firstMessages() {
	s.Helper()
	s.eventually(s.c, "the first messages, and reports", func(got *seen) error {
		if got.count["init"] != 1 || got.count["term"] != 0 || got.count["stats"] < 4 {
			return fmt.Errorf("messages %v", got.count)
		}
		return nil
	})
	list, err := s.c.messages()
	must(s.T, err)
	counters, init := map[string]bool{}, ""
	for _, m := range list {
		switch {
		case m.Type == "init":
			init = fmt.Sprint(m.Info)
		case m.Type == "stats":
			counters[fmt.Sprintf("loc=%d type=%d", m.Loc, m.Counter)] = true
		case m.Filtered != 0 || m.Type == "peer_up" && m.Loc == 1 && (m.PeerType != 3 || m.ASN != lab.NodeASN):
			s.Errorf("%v", m.Info)
		}
	}
	if !strings.Contains(init, s.n.Name) || !strings.Contains(init, "onlinkd ") {
		s.Errorf("initiation %s", init)
	}
	for _, want := range []string{"loc=0 type=7", "loc=0 type=9", "loc=0 type=11", "loc=1 type=8", "loc=1 type=10"} {
		if !counters[want] {
			s.Errorf("no counter %s in %v", want, counters)
		}
	}
	must(s.T, labtest.HasMetric(s.ctx, s.n, `onlink_bmp_station_up{station="collector"} 1`))
	labtest.WantCtl(s.ctx, s.T, s.n, 0, "collector ("+s.c.host.Addr.String()+":11019), received, accepted, best: connected for", "status")
}

// importChanges: a reload that changes what import accepts reaches the collector over
// the connection that there is.
func (s *stations) importChanges() {
	s.Helper()
	c := s.n.Edited()
	peer := c.BGP.Peer(s.tor.Name)
	peer.Import.Accept, peer.Import.LocalPref = nil, 0
	labtest.Reload(s.ctx, s.T, s.n, c)
	tor := s.tor.Addr.String()
	s.eventually(s.c, "nothing of the ToR is accepted", func(got *seen) error {
		if len(got.tables["accepted "+tor]) != 0 || len(got.tables["received "+tor]) == 0 {
			return fmt.Errorf("%v", got.tables)
		}
		return nil
	})
	s.alike(s.c)
	labtest.Reload(s.ctx, s.T, s.n, s.n.Edited())
	s.eventually(s.c, "the ToR's service is accepted again", func(got *seen) error {
		if len(got.tables["accepted "+tor]) == 0 || got.count["init"] != 1 || got.count["peer_down"] != 0 {
			return fmt.Errorf("%v, messages %v", got.tables, got.count)
		}
		return nil
	})
	s.alike(s.c)
}

// peerDies: the death of a peer, and its return.
func (s *stations) peerDies() {
	s.Helper()
	must(s.T, s.tor.Kill())
	s.eventually(s.c, "the peer is down", func(got *seen) error {
		if got.up[s.tor.Addr.String()] || got.count["peer_down"] != 1 {
			return fmt.Errorf("%v, messages %v", got.up, got.count)
		}
		return nil
	})
	must(s.T, s.tor.Start(s.ctx))
	s.eventually(s.c, "the peer is back", func(got *seen) error {
		if !got.up[s.tor.Addr.String()] {
			return fmt.Errorf("%v", got.up)
		}
		return nil
	})
	s.alike(s.c)
}

// collectorDies: the node notices, routes on, and sends all of it to the next one.
func (s *stations) collectorDies() {
	s.Helper()
	must(s.T, s.c.proc.Kill())
	must(s.T, lab.Eventually(s.ctx, labtest.Patience, "the node has noticed", func() error {
		return labtest.HasMetric(s.ctx, s.n, `onlink_bmp_station_up{station="collector"} 0`)
	}))
	labtest.WantCtl(s.ctx, s.T, s.n, 0, "no connection for", "status")
	status, err := s.n.Status(s.ctx)
	must(s.T, err)
	if !status.GetInSync() || len(status.GetProblems()) != 0 {
		s.Errorf("in sync %t, problems %q", status.GetInSync(), status.GetProblems())
	}
	s.c.start(s.T)
	s.alike(s.c)
}

// leaves: a station that leaves the file is told so, another begins.
func (s *stations) leaves(other *collector) {
	s.Helper()
	c := s.n.Edited()
	c.BGP.BMP = []conf.Station{other.station("best")}
	labtest.Reload(s.ctx, s.T, s.n, c)
	s.eventually(s.c, "the end for good", func(got *seen) error {
		if got.count["term"] != 1 {
			return fmt.Errorf("messages %v, last %v", got.count, got.last.Info)
		}
		return nil
	})
	s.eventually(other, "the Loc-RIB alone", func(got *seen) error {
		best, err := s.best()
		if err != nil {
			return err
		}
		if len(got.tables) != 1 {
			return fmt.Errorf("tables %v", got.tables)
		}
		return sameTable("best", got.tables["best"], best)
	})
	must(s.T, s.n.Stop())
	s.eventually(other, "the agent's end", func(got *seen) error {
		if got.count["term"] != 1 {
			return fmt.Errorf("messages %v, last %v", got.count, got.last.Info)
		}
		return nil
	})
}
