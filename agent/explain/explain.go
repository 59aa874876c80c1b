// Package explain follows the chain of an address, link by link: block owner,
// BGP path, decision, kernel route, neighbour, and the host's forwarding; for a
// pod of this node: owner, pod, decision, kernel route. It reports where the
// chain breaks and what an operator should check. It reads from a [World] and
// changes nothing.
package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/bgp"
	"onlink/fib/underlay"
	"onlink/ipam"
	"onlink/rib"
)

// World is the state of the node that an explanation reads.
type World interface {
	// Node returns this node's name.
	Node() string
	// InPool reports whether an address is one that onlink assigns.
	InPool(addr netip.Addr) bool
	// OwnBlock returns the block of this node that holds an address.
	OwnBlock(addr netip.Addr) (ipam.Block, bool)
	// Announcement returns the prefix around an address that this node announces for
	// an owner, such as services.
	Announcement(addr netip.Addr) (Announcement, bool)
	// Pod returns this node's pod that has an address.
	Pod(addr netip.Addr) (ipam.Assignment, bool)
	// Registered returns the blocks of all nodes, or why the registry does not
	// answer; it returns soon.
	Registered(ctx context.Context) ([]ipam.Block, error)
	// Decision returns the decision for an address.
	Decision(ctx context.Context, addr netip.Addr) (Decision, error)
	// Paths returns the BGP paths of exactly a prefix, best first.
	Paths(ctx context.Context, prefix netip.Prefix) []bgp.PathInfo
	// Announced returns the peers' announcements of the prefixes around an
	// address, with the verdict of import.
	Announced(ctx context.Context, addr netip.Addr) []bgp.Announced
	// Lookup returns the kernel's route that covers an address best.
	Lookup(addr netip.Addr) (underlay.KernelRoute, error)
	// Source returns the way of a packet from this node to an address.
	Source(addr netip.Addr) (underlay.KernelRoute, error)
	// Device returns an error when there is no device of a name.
	Device(name string) error
	// Neighbours returns a device's neighbours.
	Neighbours(dev string) ([]underlay.Neighbour, error)
	// HostObstacle returns the setting or chain of the host that keeps packets
	// for an address of a pool from being forwarded; "": none.
	HostObstacle(addr netip.Addr) string
}

// Decision is the learn flow's decision for an address.
type Decision struct {
	Route rib.Route // the longest match
	Known bool      // there is one
	// Installable is the longest match among the routes that belong into the
	// kernel; Uses reports whether there is one.
	Installable rib.Route
	Uses        bool
	// Failed returns why the kernel does not hold a prefix that is decided; "":
	// it does.
	Failed func(netip.Prefix) string
}

// Announcement is a prefix that this node announces for an owner.
type Announcement struct {
	Prefix   netip.Prefix
	Owner    string
	Reason   string   // of the owner; "": none
	Peers    []string // the only ones that receive it; empty: all
	Shutdown bool     // with GRACEFUL_SHUTDOWN (RFC 8326)
	Withheld string   // why no peer receives it now; "": they do
}

// Step is one link of the chain.
type Step struct {
	Name   string // owner, announced, import, refused, pod, bgp-path, decision, kernel-route, neighbour, host
	OK     bool
	Detail string
}

// Result is the chain of one address.
type Result struct {
	Address   netip.Addr
	Steps     []Step
	Verdict   string // the result, and what to check
	Reachable bool   // no link is broken
}

// Explain follows the chain of an address. It fails only when the decision
// cannot be read.
func Explain(ctx context.Context, w World, addr netip.Addr) (Result, error) {
	d, err := w.Decision(ctx, addr)
	if err != nil {
		return Result{}, err
	}
	c := &chain{World: w, addr: addr, known: d.Known}
	c.route = c.passRefused(d)
	c.failed = d.Failed(c.route.Prefix)
	verdict := c.walk(ctx)
	if c.whole() {
		verdict = c.host(verdict)
	}
	if c.quiet {
		verdict += "; the owner of its block is unknown: the registry does not answer"
	}
	return Result{Address: addr, Steps: c.steps, Verdict: verdict, Reachable: c.whole()}, nil
}

// chain is an explanation under way.
type chain struct {
	World

	addr   netip.Addr
	route  rib.Route // that the address hangs on
	known  bool      // a route covers the address
	failed string    // why the kernel does not hold route
	owner  string    // node that owns the block, when that is known
	free   bool      // in a pool, and in no node's block
	quiet  bool      // the registry did not answer: owner and free are not known
	steps  []Step
}

// add appends a step and reports ok, so that a broken link ends the walk.
func (c *chain) add(ok bool, name, format string, args ...any) bool {
	c.steps = append(c.steps, Step{Name: name, OK: ok, Detail: fmt.Sprintf(format, args...)})
	return ok
}

// whole reports whether no link is broken.
func (c *chain) whole() bool {
	return !slices.ContainsFunc(c.steps, func(s Step) bool { return !s.OK })
}

// walk follows the chain to its end or its first broken link, and returns the
// verdict for the operator.
func (c *chain) walk(ctx context.Context) string {
	c.explainOwner(ctx)
	if as, ok := c.Pod(c.addr); ok {
		return c.pod(as)
	}
	if a, ok := c.Announcement(c.addr); ok {
		return c.announcement(&a)
	}
	if c.route.Kind == rib.Blackhole && c.known {
		c.add(false, "pod", "no pod of this node has %s", c.addr)
		return fmt.Sprintf("%s is in this node's block %s but assigned to no pod: packets are dropped on purpose; `onlinkctl ipam show` lists the assigned addresses", c.addr, c.route.Prefix)
	}
	refused := c.refused(ctx)
	switch {
	case !c.known && !c.InPool(c.addr):
		return c.foreign(refused)
	case !c.known && refused:
		return fmt.Sprintf("no path covers %s: import refuses the announcements of it (above)", c.addr)
	}
	if !c.path(ctx) {
		if c.free {
			return fmt.Sprintf("%s is a free address of a pool: no node has claimed its block, so no node announces it", c.addr)
		}
		return fmt.Sprintf("no BGP path covers %s: its node announces nothing, or a session on the way is down; see `onlinkctl peers` here and on its node", c.addr)
	}
	return c.remote()
}

// remote follows a route to another node from the decision to the neighbour.
func (c *chain) remote() string {
	if !c.add(c.route.Kind == rib.Unicast, "decision", "%s", describe(c.route)) {
		return unusable(c.route)
	}
	if c.failed != "" {
		c.add(false, "kernel-route", "%s", c.failed)
		return fmt.Sprintf("the kernel does not hold the route for %s: %s", c.route.Prefix, c.failed)
	}
	if verdict := c.kernel(); verdict != "" {
		return verdict
	}
	verdict := fmt.Sprintf("this node sends packets for %s %s", c.addr, describeHops(c.route))
	if c.owner != "" && c.owner != c.Node() {
		verdict += fmt.Sprintf("; `onlinkctl explain %s` on %s shows whether a pod has the address", c.addr, c.owner)
	}
	return verdict
}

// pod follows the chain of a pod of this node.
func (c *chain) pod(as ipam.Assignment) string {
	c.add(true, "pod", "assigned to %s/%s (container %s, %s) on this node", as.Namespace, as.Pod, as.ContainerID, as.IfName)
	if !c.add(c.known && c.route.Kind == rib.Local, "decision", "%s", describe(c.route)) {
		return fmt.Sprintf("%s is assigned, but its pod route is unknown: the pod was not wired; see its ADD in the agent's log", c.addr)
	}
	if err := c.Device(as.HostDevice); err != nil {
		c.add(false, "kernel-route", "%v", err)
		return fmt.Sprintf("the host end %s of the pod's veth is gone: the pod's network namespace was removed without a CNI DEL", as.HostDevice)
	}
	if c.failed != "" {
		c.add(false, "kernel-route", "%s", c.failed)
		return "the kernel does not hold the pod's route: " + c.failed
	}
	if verdict := c.kernel(); verdict != "" {
		return verdict
	}
	return fmt.Sprintf("%s is the pod %s/%s on this node, behind %s", c.addr, as.Namespace, as.Pod, as.HostDevice)
}

// announcement is for an address that this node announces for an owner: nothing of
// onlink answers for it here.
func (c *chain) announcement(a *Announcement) string {
	text := fmt.Sprintf("%s is announced by this node for %s", a.Prefix, a.Owner)
	if a.Reason != "" {
		text += fmt.Sprintf(" (%s)", a.Reason)
	}
	if len(a.Peers) > 0 {
		text += ", to " + strings.Join(a.Peers, ", ") + " alone"
	}
	if a.Shutdown {
		text += ", with GRACEFUL_SHUTDOWN"
	}
	if a.Withheld != "" {
		c.add(false, "announced", "%s, but withdrawn: %s", text, a.Withheld)
		return fmt.Sprintf("this node does not attract packets for %s: %s", c.addr, a.Withheld)
	}
	c.add(true, "announced", "%s", text)
	return fmt.Sprintf("this node attracts the packets for %s, and its service proxy (such as kube-proxy) must answer them", c.addr)
}

// foreign is for addresses outside the pools that no peer announces: the node's
// own routes decide.
func (c *chain) foreign(refused bool) string {
	nobody := "no peer announces it"
	if refused {
		nobody = "import refuses the announcements of it (above)"
	}
	got, err := c.Source(c.addr)
	if err != nil {
		c.add(false, "kernel-route", "the kernel has no route: %v", err)
		return fmt.Sprintf("%s is in no pool, %s, and this node has no route to it", c.addr, nobody)
	}
	way := "dev " + got.Dev
	if got.Via.IsValid() {
		way = fmt.Sprintf("via %s dev %s", got.Via, got.Dev)
	}
	c.add(true, "kernel-route", "%s", way)
	return fmt.Sprintf("%s is in no pool and %s: the node's own routes send it %s", c.addr, nobody, way)
}
