package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"onlink/fib/underlay"
)

// Neighbourhood asks the machines on a device.
type Neighbourhood interface {
	// Solicit asks on a device who has an address and returns the MAC addresses
	// that answer; none: no machine does. An error: it cannot be asked there.
	Solicit(ctx context.Context, dev string, addr netip.Addr) ([]string, error)
}

// nextHopLink tests each next hop that is on a link of this node, now: an entry of
// the neighbour table may be old, by hand, or of a machine that is gone.
type nextHopLink struct {
	kernel        Kernel
	neighbourhood Neighbourhood
}

func (l nextHopLink) check(ctx context.Context, t *trail) {
	if t.lost || t.place == here {
		return
	}
	hops := l.onLink(t)
	answers := make([]heard, len(hops))
	var all sync.WaitGroup
	for i, h := range hops { // at once: many dead ones would take the time of the probes
		all.Go(func() { answers[i].macs, answers[i].err = l.neighbourhood.Solicit(ctx, h.dev, h.via) })
	}
	all.Wait()
	for i, h := range hops {
		l.compare(t, h, answers[i])
	}
}

// heard is what answers a solicitation.
type heard struct {
	macs []string
	err  error // it cannot be asked there, or not in time
}

// onLink returns the gateways on this node's wires that the packets, or the outer
// ones of a tunnel, are sent to.
func (l nextHopLink) onLink(t *trail) []way {
	var out []way
	for _, h := range t.hops {
		list := []way{{via: h.via, dev: h.dev, share: len(t.hops)}}
		if h.tunnel {
			list = l.under(h.via)
		}
		for _, one := range list {
			if one.via.IsValid() && !slices.Contains(out, one) {
				out = append(out, one)
			}
		}
	}
	return out
}

// under returns where the packets of a tunnel go: they follow the underlay's own
// routes, all members of a multipath one.
func (l nextHopLink) under(node netip.Addr) []way {
	got, err := l.kernel.Source(node)
	if err != nil || got.Self {
		return nil
	}
	list, err := l.kernel.Gateways(node)
	if err != nil || len(list) == 0 {
		list = []underlay.Gateway{{Dev: got.Dev, Via: got.Via}}
	}
	var out []way
	for _, g := range list {
		one := way{via: g.Via, dev: g.Dev, share: len(list)}
		if !one.via.IsValid() {
			one.via = node
		}
		out = append(out, one)
	}
	return out
}

// compare compares the kernel's entry of a neighbour with what answers.
func (l nextHopLink) compare(t *trail, h way, answer heard) {
	macs, err := answer.macs, answer.err
	entry, known := l.entry(h)
	name := fmt.Sprintf("%s dev %s", h.via, h.dev)
	state := nudText(int(entry.State))
	if known && len(entry.MAC) > 0 {
		state = fmt.Sprintf("%s, %s", entry.MAC, state)
	}
	fixed := known && entry.State&unix.NUD_PERMANENT != 0
	switch {
	case err != nil && entry.State != unix.NUD_FAILED:
		t.ok("neighbour", "%s: %s", name, state)
	case len(macs) == 0 && (!fixed || err == nil):
		format := "next hop %s does not answer ARP/ND on %s (%s): that machine is down or cut off from this network"
		args := []any{h.via, h.dev, state}
		fix := fmt.Sprintf("see whether the machine with %s is up and its port in this network (VLAN, switch); `ip neigh show dev %s`", h.via, h.dev)
		if n := h.share; n > 1 {
			format, args = format+"; it is one of %d next hops, and its share of the flows is lost", append(args, n)
		}
		t.broken("neighbour", NeighbourSilent, fix, format, args...)
		const resolved = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE
		t.steps[len(t.steps)-1].Sure = h.share > 1 && entry.State&resolved == 0
	case fixed && !slices.Contains(macs, entry.MAC.String()):
		t.broken("neighbour", NeighbourMAC, fmt.Sprintf("remove the entry (`ip neigh del %s dev %s`)", h.via, h.dev),
			"the permanent neighbour entry of %s on %s has the wrong MAC address %s: the machine that answers has %s", h.via, h.dev, entry.MAC, strings.Join(macs, " and "))
	case len(macs) > 1:
		t.suspect("neighbour", NeighbourConflict, "find the second machine by its MAC address, and give one of them another address",
			"%s on %s is answered by two machines, %s: an address conflict", h.via, h.dev, strings.Join(macs, " and "))
	default:
		t.ok("neighbour", "%s: %s, answers", name, state)
		t.answering = append(t.answering, answering{h.dev, macs[0]})
	}
}

// entry returns the kernel's entry of a neighbour.
func (l nextHopLink) entry(h way) (underlay.Neighbour, bool) {
	list, err := l.kernel.Neighbours(h.dev)
	if err != nil {
		return underlay.Neighbour{}, false
	}
	i := slices.IndexFunc(list, func(n underlay.Neighbour) bool { return n.Addr == h.via.WithZone("") })
	if i < 0 {
		return underlay.Neighbour{}, false
	}
	return list[i], true
}
