package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/internal/ours"
	"onlink/kube/api/v1alpha1"
)

// use is an address that a living kernel has: on the interface of a pod, or as the
// route from the machine to a pod's device.
type use struct {
	machine string // which boot of which machine
	node    string // the name of its Node
	place   string // the pod's namespace, or the device of the route
	route   bool
	addr    netip.Addr
}

// kernels is what the kernels of all living machines have at about one time.
type kernels struct {
	uses []use
	// own are the blocks that each machine has as its own: the blackhole routes of
	// blocks that its agent announces.
	own map[string][]netip.Prefix
}

// fault is something that must never be. It is comparable: one that two looks have
// is no mistake of a look that lasts.
type fault string

// judgeUses compares kernels with the owners of blocks by the API server.
func judgeUses(uses []use, owners map[netip.Prefix]string) []fault {
	var out []fault
	at := map[netip.Addr]use{}
	blocks := map[netip.Prefix]use{}
	for _, u := range uses {
		block, owner := ownerOf(u.addr, owners)
		switch {
		case !block.IsValid():
			out = append(out, fault(fmt.Sprintf("%s of %s (Node %s) has %s, which is in no Block", u.place, u.machine, u.node, u.addr)))
		case owner != u.node:
			out = append(out, fault(fmt.Sprintf("%s of %s (Node %s) has %s of Block %s, which is %q's", u.place, u.machine, u.node, u.addr, block, owner)))
		}
		if other, ok := at[u.addr]; ok && (other.machine != u.machine || !u.route && !other.route) {
			out = append(out, fault(fmt.Sprintf("address %s is twice: %s of %s and %s of %s", u.addr, other.place, other.machine, u.place, u.machine)))
		}
		if other, ok := blocks[block]; ok && block.IsValid() && other.machine != u.machine {
			out = append(out, fault(fmt.Sprintf("Block %s is used by two machines: %s of %s and %s of %s", block, other.place, other.machine, u.place, u.machine)))
		}
		if _, ok := at[u.addr]; !ok || !u.route {
			at[u.addr] = u
		}
		blocks[block] = u
	}
	return out
}

// ownerOf returns the Block that an address is in, and its owner.
func ownerOf(a netip.Addr, owners map[netip.Prefix]string) (netip.Prefix, string) {
	for p, owner := range owners {
		if p.Contains(a) {
			return p, owner
		}
	}
	return netip.Prefix{}, ""
}

// look reads the kernels of all living machines over netlink, and nothing else.
func (b *gcBed) look() (*kernels, error) {
	k := &kernels{own: map[string][]netip.Prefix{}}
	for _, s := range b.seats {
		m := s.machine()
		if m == nil {
			continue
		}
		uses, own, err := m.kernel()
		if err != nil {
			return nil, err
		}
		k.uses = append(k.uses, uses...)
		k.own[m.id()] = own
	}
	return k, nil
}

// kernel reads the kernel of one machine: the interfaces of its pods and its routes.
func (m *gcMachine) kernel() (uses []use, own []netip.Prefix, err error) {
	for _, p := range m.allPods() {
		addrs, err := p.NS.Link.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			if !m.hasPod(p) {
				continue // it ended meanwhile
			}
			return nil, nil, fmt.Errorf("read addresses of %s: %w", p.NS.Name, err)
		}
		for _, a := range addrs {
			addr, ok := netip.AddrFromSlice(a.IP)
			if addr = addr.Unmap(); ok && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
				uses = append(uses, use{machine: m.id(), node: m.name, place: p.NS.Name, addr: addr})
			}
		}
	}
	routes, err := m.seat.NS.Routes(ours.Protocol)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range routes {
		switch {
		case r.Type == "blackhole" && gcPool.Overlaps(r.Prefix) && r.Prefix.Bits() > gcPool.Bits():
			own = append(own, r.Prefix)
		case r.Type == "unicast" && r.Prefix.IsSingleIP() && len(r.Hops) == 1 && !r.Hops[0].Via.IsValid() && strings.HasPrefix(r.Hops[0].Dev, "onl"):
			uses = append(uses, use{machine: m.id(), node: m.name, place: r.Hops[0].Dev, route: true, addr: r.Prefix.Addr()})
		}
	}
	return uses, own, nil
}

// owners lists the Blocks as the API server has them now.
func (b *gcBed) owners(ctx context.Context) (map[netip.Prefix]string, error) {
	list, err := b.Client.Blocks.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := map[netip.Prefix]string{}
	for _, o := range list.Items {
		p, err := netip.ParsePrefix(string(o.Spec.CIDR))
		if err != nil {
			return nil, fmt.Errorf("Block %s: %w", o.Name, err)
		}
		out[p] = o.Spec.Node
	}
	return out, nil
}

// inspect returns what is wrong at one moment: the Blocks are read between two looks
// at the kernels, and only what both have is a fault. So a pod that begins or ends
// meanwhile is none.
func (b *gcBed) inspect(ctx context.Context) ([]fault, error) {
	before, err := b.look()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	owners, err := b.owners(ctx)
	if err != nil {
		return nil, nil // the API server is stopped at times: there is nothing to compare with
	}
	suspects := judgeUses(before.uses, owners)
	if len(suspects) == 0 {
		return nil, nil
	}
	after, err := b.look()
	if err != nil {
		return nil, err
	}
	same := judgeUses(after.uses, owners)
	return slices.DeleteFunc(suspects, func(f fault) bool { return !slices.Contains(same, f) }), nil
}

// leaks returns the Blocks and Leases of nodes without a living machine, Blocks that
// the machine of their node does not have, and freed Blocks that are there still.
func (b *gcBed) leaks(ctx context.Context) ([]fault, error) {
	k, err := b.look()
	if err != nil {
		return nil, err
	}
	living, has := map[string]bool{}, map[string]bool{}
	for _, s := range b.seats {
		m := s.machine()
		if m == nil {
			continue
		}
		living[m.name] = true
		for _, p := range k.own[m.id()] {
			has[m.name+" "+p.String()] = true
		}
	}
	owners, err := b.owners(ctx)
	if err != nil {
		return nil, err
	}
	var out []fault
	for p, node := range owners {
		switch {
		case node == "":
			out = append(out, fault(fmt.Sprintf("the freed Block %s is not deleted", p)))
		case !living[node]:
			out = append(out, fault(fmt.Sprintf("Block %s is that of %s, of which no machine lives", p, node)))
		case !has[node+" "+p.String()]:
			out = append(out, fault(fmt.Sprintf("Block %s is that of %s, which does not route it", p, node)))
		}
	}
	leases, err := b.Client.CoordinationV1().Leases(namespace).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.NodeLabel})
	if err != nil {
		return nil, err
	}
	for _, l := range leases.Items {
		if node := l.Labels[v1alpha1.NodeLabel]; !living[node] {
			out = append(out, fault(fmt.Sprintf("Lease %s is that of %s, of which no machine lives", l.Name, node)))
		}
	}
	slices.Sort(out)
	return out, nil
}
