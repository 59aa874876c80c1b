// Part of the patch fanout/update-groups.

package table

import (
	"net"
	"sync"
	"sync/atomic"
)

// policyLock counts how often the policy may have changed.
type policyLock struct {
	sync.RWMutex
	writes atomic.Uint64
}

func (l *policyLock) Lock() {
	l.RWMutex.Lock()
	l.writes.Add(1)
}

// Generation changes with every change of the policy, and now and then
// without one.
func (r *RoutingPolicy) Generation() uint64 {
	return r.mu.writes.Load()
}

// ExportSignature says how the global export policy sees a neighbor: it
// treats neighbors with one signature alike.
func (r *RoutingPolicy) ExportSignature(neighbor net.IP) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var sig []byte
	named := false
	for _, p := range r.getPolicy(GLOBAL_RIB_NAME, POLICY_DIRECTION_EXPORT) {
		for _, s := range p.Statements {
			for _, c := range s.Conditions {
				if c, ok := c.(*NeighborCondition); ok {
					sig = append(sig, c.verdict(neighbor))
				}
			}
			for _, a := range s.ModActions {
				if a, ok := a.(*NexthopAction); ok && a.peerAddress {
					named = true
				}
			}
		}
	}
	if named {
		sig = append(sig, neighbor.String()...)
	}
	return string(sig)
}

// verdict is what Evaluate makes of a neighbor: 'y' or 'n'.
func (c *NeighborCondition) verdict(neighbor net.IP) byte {
	match := len(c.set.list) == 0
	for _, n := range c.set.list {
		if n.Contains(neighbor) {
			match = true
			break
		}
	}
	if len(c.set.list) > 0 && c.option == MATCH_OPTION_INVERT {
		match = !match
	}
	if match {
		return 'y'
	}
	return 'n'
}
