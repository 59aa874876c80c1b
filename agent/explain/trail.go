package explain

import (
	"fmt"
	"net/netip"

	"onlink/ipam"
	"onlink/rib"
)

// Question is what an operator asks: how packets get to an address.
type Question struct {
	// From is the address that the packets come from, of a pod or of a node; then
	// the answers are explained, too. The zero Addr: from a pod of this node and
	// from the node itself.
	From netip.Addr
	To   netip.Addr
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

// place is where an address is, as this node sees it.
type place uint8

const (
	elsewhere place = iota // behind a route to another machine
	here                   // a pod of this node
	unused                 // in a block of this node, and of no pod
	announced              // announced by this node for an owner, such as services
	outside                // in no pool, and no peer's route covers it
)

// trail is an explanation under way: what the links found so far.
type trail struct {
	Question

	steps []Step

	place     place
	decision  Decision
	route     rib.Route       // that the address hangs on
	known     bool            // a route covers the address
	failed    string          // why the kernel does not hold route
	far       netip.Addr      // next hop of the best path: the far node
	origin    netip.Addr      // of that path: router ID or address of a node of this AS, most likely the far one's
	owner     string          // node that owns the block, when that is known
	nodes     []netip.Addr    // addresses of the owner, when they are known
	silent    bool            // the registry did not answer: owner and free are not known
	free      bool            // in a pool, and in no node's block
	pod       ipam.Assignment // with place here
	source    ipam.Assignment // pod of this node that packets come from
	from      netip.Addr      // its address; the zero Addr: the node itself
	hops      []way           // where the packets leave
	lost      bool            // no route leads on: the links behind have nothing to look at
	good      string          // how it works, when it does
	answering []answering     // the next hops on this node's wires that answer
	tunnels   []string        // the tunnels of the route, in words
	format    string          // of the tunnel's packets
	probed    bool            // a probe got an answer over the very path
	refused   bool            // import rejects announcements of the address
	outer     netip.Addr      // source of the tunnel's packets that bring those of another node
}

// way is one next hop of the route.
type way struct {
	via    netip.Addr // gateway, or the address itself on a link; the zero Addr: a pod's device
	dev    string
	tunnel bool
	share  int // the number of next hops that share the packets with it; 0: none
}

// answering is a next hop that answers on a wire of this node.
type answering struct{ dev, mac string }

// add appends a step.
func (t *trail) add(s Step) { t.steps = append(t.steps, s) }

// ok appends a step of a link that holds.
func (t *trail) ok(name, format string, args ...any) {
	t.add(Step{Name: name, State: OK, Detail: fmt.Sprintf(format, args...)})
}

// broken appends a step of a broken link. fix is what an operator does about it.
func (t *trail) broken(name string, c Cause, fix, format string, args ...any) {
	t.add(Step{Name: name, State: Broken, Cause: c, Fix: fix, Detail: fmt.Sprintf(format, args...)})
}

// suspect appends a step that may break the path, and does not when a probe gets
// its answer.
func (t *trail) suspect(name string, c Cause, fix, format string, args ...any) {
	t.add(Step{Name: name, State: Suspect, Cause: c, Fix: fix, Detail: fmt.Sprintf(format, args...)})
}
