// Package explain follows the chain of an address, link by link, as a packet
// takes it: block owner, BGP path, decision, the kernel's route, next hop, the
// switches of the host, tunnel, pod, and a probe of the path. It names one cause
// where the chain breaks, with its evidence and the fix. It reads from a [World]
// and changes nothing but what a packet changes.
//
// The chain is a list of links. A [link] is a small type over the interface of
// the World that it needs; it adds steps to the [trail] and reads what earlier
// links found there. What other nodes see is one more link, over [Agents]; [Answer]
// is its other end.
package explain

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// World is the state of the node, one interface for each link.
type World struct {
	Node      string       // this node's name
	Addresses []netip.Addr // of this node
	Registry  Registry
	Sessions  Sessions
	Decider   Decider
	Kernel    Kernel
	Link      Neighbourhood
	Host      Host
	Tunnels   Tunnels
	Pods      Pods
	Probes    Probes
	Agents    Agents // nil: no other agent is asked
	Status    Status
}

// patience bounds an explanation: the probes at its end have what is left. What is
// not found by then is no evidence: a step that ran out of time says so, and what the
// others found stands.
const patience = 4500 * time.Millisecond

// Explain follows the chain of an address, and with From that of the answers. It
// fails only when the decision cannot be read.
func Explain(ctx context.Context, w World, q Question) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q.From, q.To = q.From.Unmap(), q.To.Unmap()
	if !q.From.IsValid() {
		there, err := follow(ctx, w, q)
		if err != nil {
			return Result{}, err
		}
		return there.result(), nil
	}
	// At the same time: the way back would have no time left behind a silent way there.
	var there, back *trail
	var errs [2]error
	var all sync.WaitGroup
	all.Go(func() { there, errs[0] = follow(ctx, w, q) })
	all.Go(func() { back, errs[1] = follow(ctx, w, Question{From: q.To, To: q.From}) })
	all.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return Result{}, err
	}
	return both(there.result(), back.result()), nil
}

// In returns [Explain] with the state of w.
func In(w World) func(context.Context, Question) (Result, error) {
	return func(ctx context.Context, q Question) (Result, error) { return Explain(ctx, w, q) }
}

// follow walks the chain of one direction.
func follow(ctx context.Context, w World, q Question) (*trail, error) {
	t, err := begin(ctx, w, q)
	if err != nil {
		return nil, err
	}
	t.walk(ctx, links(w))
	return t, nil
}

// begin returns the trail of one direction, with the decision.
func begin(ctx context.Context, w World, q Question) (*trail, error) {
	d, err := w.Decider.Decision(ctx, q.To)
	if err != nil {
		return nil, err
	}
	t := &trail{Question: q, decision: d, known: d.Known}
	t.passRefused()
	return t, nil
}

// walk goes along links.
func (t *trail) walk(ctx context.Context, list []link) {
	for _, l := range list {
		l.check(ctx, t)
	}
}

// link is one link of the chain. It adds steps to the trail; what it cannot read, for
// want of time too, is no step.
type link interface {
	check(ctx context.Context, t *trail)
}

// links returns the chain, in the order of a packet's way. A link passes over
// what does not concern it.
func links(w World) []link {
	return []link{
		ownerLink{w.Node, w.Registry},
		podLink{w.Node, w.Registry, w.Pods},
		announceLink{w.Sessions, w.Registry, nil},
		pathLink{w.Registry, w.Sessions},
		decisionLink{w.Host},
		sourceLink{w.Pods},
		routeLink{w.Kernel},
		nextHopLink{w.Kernel, w.Link},
		tunnelLink{w.Tunnels, ""},
		wiringLink{w.Pods},
		hostLink{w.Registry, w.Kernel, w.Host},
		probeLink{w.Registry, w.Kernel, w.Probes},
		farLink{w},
		statusLink{w.Status},
	}
}
