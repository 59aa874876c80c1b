package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
	onlinkv1 "onlink/proto/v1"
)

// answers says of each asked block whether an announcement of it is received. An
// agent that has not the tables of its peers yet answers nothing: that it hears
// nothing is no proof.
func (r *reporter) answers(ctx context.Context, questions []v1alpha1.CIDR, s *onlinkv1.Status) ([]v1alpha1.Answer, error) {
	if !s.GetInSync() || s.GetPeersEstablished() == 0 {
		return nil, nil
	}
	peers, err := r.link.admin.ListPeers(ctx, &onlinkv1.ListPeersRequest{})
	if err != nil {
		return nil, fmt.Errorf("list the agent's peers: %w", err)
	}
	config, _ := r.objects.configs.get(v1alpha1.ConfigName)
	_, silent := hear(peers.GetPeers(), assertPeriod(config))
	var out []v1alpha1.Answer
	for _, q := range questions {
		p, err := netip.ParsePrefix(string(q))
		if err != nil {
			continue // the API server admits none
		}
		rep, err := r.link.admin.ListRoutes(ctx, &onlinkv1.ListRoutesRequest{Prefix: p.String(), Paths: true})
		if err != nil {
			return nil, fmt.Errorf("list the agent's routes: %w", err)
		}
		out = append(out, v1alpha1.Answer{CIDR: q, Heard: received(rep.GetRoutes(), p, silent), At: metav1.NewTime(time.Now().Truncate(time.Second))})
	}
	return out, nil
}

// assertPeriod is spec.ipam.assert of an OnlinkConfig.
func assertPeriod(config *v1alpha1.OnlinkConfig) time.Duration {
	if config != nil {
		if d, err := time.ParseDuration(string(config.Spec.IPAM.Assert)); err == nil && d > 0 {
			return d
		}
	}
	return time.Minute
}

// hear divides the addresses of peers into those that are heard and those without a
// session for longer than a time. The routes of the latter may stay for two minutes after
// that (RFC 4724), which an agent that restarts needs for seconds; a machine without power
// would be heard for 90 s more of the hold time and those two minutes.
func hear(peers []*onlinkv1.Peer, least time.Duration) (heard, silent map[netip.Addr]bool) {
	heard, silent = map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, p := range peers {
		addr, err := netip.ParseAddr(p.GetAddress())
		if err != nil || p.GetStranger() {
			continue
		}
		if p.GetState() == established || p.GetSince().AsDuration() <= least {
			heard[addr] = true
		} else {
			silent[addr] = true
		}
	}
	for addr := range heard {
		delete(silent, addr)
	}
	return heard, silent
}

// received reports whether a route of a peer is p or inside it. A covering one, such
// as a default route, says nothing about p; the agent's own are no peer's; and one of
// which each path is from a silent peer, was announced by one, or leads there is left
// from before: of a session over IPv4 the next hops of IPv6 routes are not the peer's
// address, and other reflectors reflect what they keep of a dead node.
func received(routes []*onlinkv1.Route, p netip.Prefix, silent map[netip.Addr]bool) bool {
	return slices.ContainsFunc(routes, func(r *onlinkv1.Route) bool {
		q, err := netip.ParsePrefix(r.GetPrefix())
		if err != nil || q.Bits() < p.Bits() || !p.Contains(q.Addr()) || r.GetKind() != "unicast" && r.GetKind() != "unresolved" {
			return false
		}
		of := func(text string) bool {
			addr, err := netip.ParseAddr(text)
			return err == nil && silent[addr]
		}
		if len(r.GetPaths()) > 0 {
			return slices.ContainsFunc(r.GetPaths(), func(p *onlinkv1.Path) bool {
				// The router ID of a node is its IPv4 address, where it has one.
				return !of(p.GetPeer()) && !of(p.GetNextHop()) && !of(p.GetOriginatorId())
			})
		}
		return len(r.GetHops()) == 0 || slices.ContainsFunc(r.GetHops(), func(h *onlinkv1.Hop) bool { return !of(h.GetVia()) })
	})
}
