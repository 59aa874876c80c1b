package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"onlink/kube/render"
	onlinkv1 "onlink/proto/v1"
)

// lonely is how long a new node of a mesh waits for another: a cluster whose other
// nodes are all down must still get one that is ready.
const lonely = time.Minute

// readiness is whether the node can serve pods, and why not.
type readiness struct {
	ok              bool
	reason, message string
}

// readiness judges the agent's status.
func (r *reporter) readiness(ctx context.Context, s *onlinkv1.Status, up bool) (readiness, error) {
	if !up {
		why := "the agent does not answer; pods keep their connections, new ones do not start"
		if err := r.link.failure(); err != nil {
			why += ": " + err.Error()
		}
		return readiness{reason: "AgentAway", message: why}, nil
	}
	if s.GetBlocks() == 0 {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		pools, err := r.link.admin.ListPools(ctx, &onlinkv1.ListPoolsRequest{})
		if err != nil {
			return readiness{}, fmt.Errorf("list the agent's pools: %w", err)
		}
		r.pools = len(pools.GetPools())
	}
	out := r.out.get()
	mesh := out.everyNode && len(r.objects.peers.list()) == 0
	alone := mesh && time.Since(s.GetStarted().AsTime()) > lonely
	return judge(s, r.pools, alone, out.lacksSession()), nil
}

// isolation returns why a rendering has no session inside the cluster though it should
// have one; "": it has, or needs none.
func isolation(out *render.Output) string {
	if !out.Isolated {
		return ""
	}
	return "the configuration has no session inside the cluster, so other nodes do not learn this one's blocks: " + strings.Join(out.Problems, "; ")
}

// judge returns the readiness by a status of an agent with so many pools; alone: it
// need not have a session; isolated: why it has none that it needs. A session of a
// BGPPeer, or one that stays in force while its removal is held, connects the node.
func judge(s *onlinkv1.Status, pools int, alone bool, isolated string) readiness {
	switch {
	case s.GetPhase() != "ready" || !s.GetInSync():
		return readiness{reason: "Syncing", message: "the agent is " + s.GetPhase() + ": the routes of its peers are not all in the kernel yet"}
	case s.GetBlocks() == 0 && pools > 0:
		return readiness{reason: "NoBlock", message: "the node owns no block of addresses yet; registry: " + s.GetRegistry()}
	case isolated != "" && s.GetPeersEstablished() == 0:
		return readiness{reason: "NoSession", message: isolated}
	case s.GetPeersTotal() > 0 && s.GetPeersEstablished() == 0 && !alone:
		return readiness{reason: "NoSession", message: fmt.Sprintf("none of %d BGP sessions is established", s.GetPeersTotal())}
	}
	message := fmt.Sprintf("%d of %d BGP sessions are established", s.GetPeersEstablished(), s.GetPeersTotal())
	return readiness{ok: true, reason: "Serving", message: message}
}
