package explain

import (
	"context"
	"net/netip"
	"strings"

	"onlink/ipam"
	"onlink/rib"
)

// Pods are the pods of this node.
type Pods interface {
	// Pod returns this node's pod that has an address.
	Pod(addr netip.Addr) (ipam.Assignment, bool)
	// Samples returns a few pods of this node that have an address of a family,
	// other than a given one.
	Samples(v6 bool, but netip.Addr) []ipam.Assignment
	// Wiring compares a pod's interface with the one that ADD made, as CNI's CHECK
	// does.
	Wiring(ctx context.Context, as ipam.Assignment) (Wiring, error)
}

// Wiring is what differs of a pod's interface.
type Wiring struct {
	Differences []string // one line each
	Spoof       string   // what differs of its entry against forged addresses; "": nothing
}

// whole reports whether nothing differs.
func (w Wiring) whole() bool { return len(w.Differences) == 0 && w.Spoof == "" }

// podLink finds the pod of this node that has the address.
type podLink struct {
	node     string
	registry Registry
	pods     Pods
}

func (l podLink) check(_ context.Context, t *trail) {
	as, ok := l.pods.Pod(t.To)
	if !ok {
		if t.route.Kind == rib.Blackhole && t.known {
			t.place, t.lost = unused, true
			t.broken("pod", PodUnassigned, "ping an address of a running pod instead; `onlinkctl ipam show` lists the assigned addresses",
				"%s is in this node's block %s but assigned to no pod: packets are dropped on purpose", t.To, t.route.Prefix)
			return
		}
		if t.owner == l.node { // no drop route: see decision
			t.place = unused
		}
		return
	}
	t.place, t.pod = here, as
	t.ok("pod", "assigned to %s/%s (container %s, %s) on this node", as.Namespace, as.Pod, as.ContainerID, as.IfName)
}

// sourceLink chooses the pod that packets come from: the one of the question, or
// any of this node, so that the kernel's lists are read as for a pod's packet. A
// pod with a fault of its own would be a false witness.
type sourceLink struct{ pods Pods }

func (l sourceLink) check(ctx context.Context, t *trail) {
	if t.From.IsValid() {
		if as, ok := l.pods.Pod(t.From); ok {
			t.source, t.from = as, t.From
		}
		return
	}
	if t.lost || t.place == here {
		return
	}
	var faulty []string
	for _, as := range l.pods.Samples(t.To.Is6(), t.To) {
		if w, err := l.pods.Wiring(ctx, as); err != nil || !w.whole() {
			faulty = append(faulty, as.Namespace+"/"+as.Pod)
			continue
		}
		for _, a := range as.Addresses {
			if a.Is6() == t.To.Is6() {
				t.source, t.from = as, a
				return
			}
		}
	}
	if len(faulty) > 0 {
		t.suspect("pod", PodWiring, "explain the addresses of these pods", "packets are followed from this node alone: the interface of its pods %s is not as ADD made it", strings.Join(faulty, ", "))
	}
}

// wiringLink compares the interface of the address's pod, and of the pod that the
// question names as the source, with those that ADD made.
type wiringLink struct{ pods Pods }

func (l wiringLink) check(ctx context.Context, t *trail) {
	if t.place == here {
		l.compare(ctx, t, t.pod)
	}
	if t.From.IsValid() && t.from.IsValid() {
		l.compare(ctx, t, t.source)
	}
}

// compare adds the differences of one pod's interface.
func (l wiringLink) compare(ctx context.Context, t *trail, as ipam.Assignment) {
	const fix = "undo the change in the pod, or delete the pod, so that its runtime makes it anew; find the program that changed it (a privileged container, another CNI plugin)"
	found, err := l.pods.Wiring(ctx, as)
	name := as.Namespace + "/" + as.Pod
	if err != nil {
		t.suspect("pod", PodWiring, "see the error; delete the pod, so that its runtime makes it anew", "the interface of the pod %s cannot be read: %v", name, err)
		return
	}
	var mine, others []string
	for _, line := range found.Differences {
		if concerns(line, t.To.Is6()) {
			mine = append(mine, line)
		} else {
			others = append(others, line)
		}
	}
	if len(mine) > 0 {
		t.broken("pod", PodWiring, fix, "the interface of the pod %s is not as ADD made it: %s", name, strings.Join(mine, "; "))
	}
	if len(others) > 0 {
		t.ok("pod", "the interface of the pod %s is not as ADD made it for packets of the other family: %s", name, strings.Join(others, "; "))
	}
	if found.Spoof != "" {
		t.broken("pod", HostSpoof, "delete the pod, so that its runtime makes it anew; find the program that changes the interface or the table inet onlink-pods (`nft monitor`)",
			"packets of the pod %s are dropped as forged: %s", name, found.Spoof)
	}
	if found.whole() {
		t.ok("pod", "the interface of the pod %s is as ADD made it", name)
	}
}

// concerns reports whether a difference of an interface touches packets of a family:
// one that names addresses or settings of the other family alone does not.
func concerns(line string, v6 bool) bool {
	mine, others := false, false
	for w := range strings.FieldsSeq(line) {
		w = strings.TrimRight(w, ",;:")
		is4, is6 := strings.HasPrefix(w, "ipv4."), strings.HasPrefix(w, "ipv6.")
		if p, err := netip.ParsePrefix(w); err == nil {
			is4, is6 = p.Addr().Is4(), p.Addr().Is6()
		} else if a, err := netip.ParseAddr(w); err == nil {
			is4, is6 = a.Is4(), a.Is6()
		}
		if v6 {
			is4, is6 = is6, is4
		}
		mine, others = mine || is4, others || is6
	}
	return mine || !others
}
