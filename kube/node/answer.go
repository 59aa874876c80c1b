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
	var out []v1alpha1.Answer
	for _, q := range questions {
		p, err := netip.ParsePrefix(string(q))
		if err != nil {
			continue // the API server admits none
		}
		rep, err := r.link.admin.ListRoutes(ctx, &onlinkv1.ListRoutesRequest{Prefix: p.String()})
		if err != nil {
			return nil, fmt.Errorf("list the agent's routes: %w", err)
		}
		out = append(out, v1alpha1.Answer{CIDR: q, Heard: received(rep.GetRoutes(), p), At: metav1.NewTime(time.Now().Truncate(time.Second))})
	}
	return out, nil
}

// received reports whether a route of a peer is p or inside it. A covering one, such
// as a default route, says nothing about p; the agent's own are no peer's.
func received(routes []*onlinkv1.Route, p netip.Prefix) bool {
	return slices.ContainsFunc(routes, func(r *onlinkv1.Route) bool {
		q, err := netip.ParsePrefix(r.GetPrefix())
		return err == nil && q.Bits() >= p.Bits() && p.Contains(q.Addr()) && (r.GetKind() == "unicast" || r.GetKind() == "unresolved")
	})
}
