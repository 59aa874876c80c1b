package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Options is where a lab finds and leaves files.
type Options struct {
	// Bin is the folder with onlinkd, onlinkctl and onlink-cni; empty for a
	// lab without agents.
	Bin string
}

// Lab is one running topology.
type Lab struct {
	Spec   Spec
	Dir    string // logs, configurations, state and sockets
	Bin    string
	Racks  []*Rack
	Uplink *NS // nil unless asked for
	core   *NS // the switch between the ToRs

	lock *os.File

	mu         sync.Mutex // guards namespaces and pods
	namespaces []*NS
	pods       []*Pod
}

// Rack is one switch with its routers and nodes.
type Rack struct {
	Number int // from 1
	Switch *NS
	ToRs   []*ToR
	Nodes  []*Node // reflectors first
}

// Build makes the namespaces and wires of a lab; nothing runs in them yet. On
// an error nothing is left.
func Build(ctx context.Context, spec Spec, opts Options) (*Lab, error) {
	spec, err := spec.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, err := lockName(spec.Name)
	if err != nil {
		return nil, err
	}
	l := &Lab{Spec: spec, Dir: Folder(spec.Name), Bin: opts.Bin, lock: lock}
	s := steps{}
	s.do(func() error { return removeLeftovers(spec.Name) })
	s.do(func() error { return os.MkdirAll(l.Dir, 0o755) })
	s.do(func() error { return l.build(ctx) })
	if s.err != nil {
		return nil, errors.Join(fmt.Errorf("build lab %s: %w", spec.Name, s.err), l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	var err error
	if l.core, err = l.switchNS("core"); err != nil {
		return err
	}
	for r := 1; r <= l.Spec.Racks; r++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.buildRack(r); err != nil {
			return err
		}
	}
	if l.Spec.Uplink {
		return l.buildUplink()
	}
	return nil
}

// buildRack makes one switch with its routers, reflectors and nodes.
func (l *Lab) buildRack(number int) error {
	rack := &Rack{Number: number}
	l.Racks = append(l.Racks, rack)
	var err error
	if rack.Switch, err = l.switchNS(fmt.Sprintf("sw%d", number)); err != nil {
		return err
	}
	for i := range l.Spec.ToRsPerRack {
		t, err := l.newToR(rack, i)
		if err != nil {
			return err
		}
		rack.ToRs = append(rack.ToRs, t)
	}
	// Reflector k (from 0) lives in rack k mod racks + 1.
	for k := number - 1; k < l.Spec.Reflectors; k += l.Spec.Racks {
		if err := l.addNode(rack, fmt.Sprintf("rr%d", k+1), 10-k/l.Spec.Racks, true); err != nil {
			return err
		}
	}
	for i := range l.Spec.NodesPerRack {
		if err := l.addNode(rack, fmt.Sprintf("r%dn%d", number, i+1), 11+i, false); err != nil {
			return err
		}
	}
	return nil
}

// buildUplink makes a host that every ToR uses as default gateway; it knows
// the racks but no pod prefix, as the Internet does.
func (l *Lab) buildUplink() error {
	var err error
	if l.Uplink, err = l.namespace("uplink"); err != nil {
		return err
	}
	s := steps{}
	s.do(func() error { return plug(l.core, "uplink", l.Uplink, "core") })
	s.do(func() error { return l.Uplink.AddAddr("core", netip.PrefixFrom(coreAddr(254), 24)) })
	s.do(func() error { return l.Uplink.AddAddr("lo", netip.PrefixFrom(outside, 32)) })
	s.do(func() error { return l.Uplink.Sysctl("net/ipv4/ip_forward", "1") })
	for _, rack := range l.Racks {
		var gateways []netip.Addr
		for _, t := range rack.ToRs {
			gateways = append(gateways, t.Core)
		}
		s.do(func() error { return l.Uplink.addRoute(rackNet(rack.Number), gateways...) })
	}
	return s.err
}

// namespace makes one namespace of this lab, removed by Close.
func (l *Lab) namespace(name string) (*NS, error) {
	ns, err := newNS(l.Spec.Name + "." + name)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.namespaces = append(l.namespaces, ns)
	return ns, nil
}

func (l *Lab) switchNS(name string) (*NS, error) {
	ns, err := l.namespace(name)
	if err != nil {
		return nil, err
	}
	return ns, ns.addBridge()
}

// Close stops every program and removes everything the lab made, also after a
// failed build. It is idempotent.
func (l *Lab) Close() error {
	if l.lock == nil {
		return nil
	}
	s := steps{}
	for _, n := range l.Nodes() {
		s.all(n.Kill)
	}
	for _, t := range l.ToRs() {
		s.all(t.Kill)
	}
	l.mu.Lock()
	namespaces := l.namespaces
	l.namespaces, l.pods = nil, nil
	l.mu.Unlock()
	names := make([]string, len(namespaces))
	for i, ns := range namespaces {
		names[i] = ns.Name
	}
	s.all(func() error { return killInside(names) })
	for _, ns := range namespaces {
		s.all(ns.close)
	}
	s.all(func() error { return removeLeftovers(l.Spec.Name) })
	s.all(func() error { return unlockName(l.lock) })
	l.lock = nil
	if s.err != nil {
		return fmt.Errorf("close lab %s: %w", l.Spec.Name, s.err)
	}
	return nil
}

// ToRs returns all routers, rack by rack.
func (l *Lab) ToRs() []*ToR {
	var out []*ToR
	for _, r := range l.Racks {
		out = append(out, r.ToRs...)
	}
	return out
}

// Nodes returns all nodes, reflectors of a rack before its other nodes.
func (l *Lab) Nodes() []*Node {
	var out []*Node
	for _, r := range l.Racks {
		out = append(out, r.Nodes...)
	}
	return out
}

// Workers returns the nodes that are not reflectors.
func (l *Lab) Workers() []*Node {
	var out []*Node
	for _, n := range l.Nodes() {
		if !n.Reflector {
			out = append(out, n)
		}
	}
	return out
}

// Reflectors returns the reflector nodes.
func (l *Lab) Reflectors() []*Node {
	var out []*Node
	for _, n := range l.Nodes() {
		if n.Reflector {
			out = append(out, n)
		}
	}
	return out
}

// Node returns the node of that name; it panics when there is none, which is
// a mistake in the caller's program.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.Nodes() {
		if n.Name == name {
			return n
		}
	}
	panic("lab: no node " + name)
}

func (l *Lab) rack(number int) *Rack { return l.Racks[number-1] }

// bgpNodes returns the rack's nodes that peer with its ToRs: all but the
// reflectors, which only reflect.
func (r *Rack) bgpNodes() []*Node {
	var out []*Node
	for _, n := range r.Nodes {
		if !n.Reflector {
			out = append(out, n)
		}
	}
	return out
}

// StartToRs starts all routers and waits until each has a route to every
// other rack.
func (l *Lab) StartToRs(ctx context.Context) error {
	for _, t := range l.ToRs() {
		if err := t.Start(ctx); err != nil {
			return err
		}
	}
	for _, t := range l.ToRs() {
		for _, r := range l.Racks {
			if r.Number == t.Number {
				continue
			}
			if err := t.WaitRoute(ctx, rackNet(r.Number)); err != nil {
				return err
			}
		}
	}
	return nil
}

// WaitRoute waits until the router has learned a prefix and put it into its
// kernel.
func (t *ToR) WaitRoute(ctx context.Context, p netip.Prefix) error {
	err := Eventually(ctx, time.Minute, t.Name+" learns "+p.String(), func() error {
		routes, err := t.NS.Routes(t.protocol())
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Prefix == p {
				return nil
			}
		}
		return fmt.Errorf("its kernel has %v", routes)
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, t.Logs(20))
	}
	return nil
}
