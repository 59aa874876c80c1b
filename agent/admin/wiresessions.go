package admin

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
)

// This file translates sessions and their routes into messages.

// groupMembersShown bounds the members of an update group in an answer.
const groupMembersShown = 32

func detailToWire(d *bgp.PeerDetail, peer *onlinkv1.Peer) *onlinkv1.PeerDetail {
	w := &onlinkv1.PeerDetail{
		Peer: peer, Local: addrToWire(d.Local), LocalRouterId: addrToWire(d.LocalID), RemoteRouterId: addrToWire(d.RouterID),
		Timers: timersToWire(d), Ours: capabilitiesToWire(d.Ours), Theirs: capabilitiesToWire(d.Theirs),
		Sent: messagesToWire(d.SentMessages), Received: messagesToWire(d.Heard), Password: d.Password, Dials: "both",
	}
	switch {
	case d.Passive:
		w.Dials = "peer"
	case d.Yield:
		w.Dials = "peer-first"
	}
	for _, f := range d.Families {
		w.Families = append(w.Families, f.String())
	}
	for _, f := range d.PerFamily {
		w.PerFamily = append(w.PerFamily, &onlinkv1.PeerFamily{Family: f.Family.String(), Received: count(f.Received), Accepted: count(f.Accepted)})
	}
	for i := range d.Groups {
		w.Groups = append(w.Groups, groupToWire(&d.Groups[i]))
	}
	return w
}

func timersToWire(d *bgp.PeerDetail) *onlinkv1.PeerTimers {
	t := &onlinkv1.PeerTimers{Hold: durationpb.New(d.Hold), Keepalive: durationpb.New(d.Keepalive), ConnectRetry: durationpb.New(d.Retry)}
	if d.NegotiatedHold > 0 {
		t.NegotiatedHold, t.NegotiatedKeepalive = durationpb.New(d.NegotiatedHold), durationpb.New(d.NegotiatedKeepalive)
	}
	return t
}

func capabilitiesToWire(list []bgp.Capability) []*onlinkv1.Capability {
	out := make([]*onlinkv1.Capability, 0, len(list))
	for _, c := range list {
		out = append(out, &onlinkv1.Capability{Code: uint32(c.Code), Name: c.Name, Value: c.Value})
	}
	return out
}

func messagesToWire(m bgp.Messages) *onlinkv1.PeerMessages {
	return &onlinkv1.PeerMessages{
		Open: m.Open, Update: m.Update, Notification: m.Notification, Keepalive: m.Keepalive, Refresh: m.Refresh, Total: m.Total,
	}
}

func groupToWire(g *bgp.UpdateGroup) *onlinkv1.UpdateGroup {
	w := &onlinkv1.UpdateGroup{
		Family: g.Family.String(), Size: number(len(g.Members)), Prefixes: count(g.Prefixes), Behind: count(g.Behind), Withheld: count(g.Withheld),
	}
	for _, a := range g.Members[:min(len(g.Members), groupMembersShown)] {
		w.Members = append(w.Members, a.String())
	}
	return w
}

func peerRouteToWire(r *bgp.PeerRoute) *onlinkv1.PeerRoute {
	return &onlinkv1.PeerRoute{
		Prefix: r.Route.Prefix.String(), NextHop: addrToWire(r.Route.NextHop), AsPath: r.Route.ASPath,
		LocalPref: r.Route.LocalPref, Med: r.Route.MED, Communities: slices.Concat(r.Route.Communities, r.Route.LargeCommunities),
		Origin: r.Route.Origin, OriginatorId: addrToWire(r.OriginatorID), ClusterList: addrsToWire(r.ClusterList),
		State: r.State, Rule: r.Rule, Age: durationpb.New(time.Since(r.At).Truncate(time.Second)), Stale: r.Stale,
	}
}

func candidateToWire(c *bgp.Candidate) *onlinkv1.Path {
	return &onlinkv1.Path{
		Peer: addrToWire(c.Peer), RouterId: addrToWire(c.RouterID), NextHop: addrToWire(c.NextHop), AsPath: c.ASPath,
		LocalPref: c.LocalPref, Med: c.MED, Origin: c.Origin, OriginatorId: addrToWire(c.OriginatorID), ClusterList: addrsToWire(c.ClusterList),
		Communities: c.Communities, Age: durationpb.New(c.Age), Stale: c.Stale, State: string(c.State), Reason: c.Reason,
	}
}

// lossToWire is what went with a peer's last session; nil when nothing is known of it.
func lossToWire(l bgp.Loss) *onlinkv1.PeerLoss {
	if l.Received == 0 {
		return nil
	}
	w := &onlinkv1.PeerLoss{Received: count(l.Received), Accepted: count(l.Accepted)}
	for _, p := range l.Prefixes {
		w.Prefixes = append(w.Prefixes, p.String())
	}
	return w
}

// addrToWire is "" for the zero Addr.
func addrToWire(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func addrsToWire(list []netip.Addr) []string {
	out := make([]string, 0, len(list))
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}
