package preflight

import (
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// Bounds of a DNS name (RFC 1035 section 2.3.4).
const maxLabel, maxName = 63, 253

// nodeName requires a DNS name: it is the name of the node's Lease in Kubernetes,
// of its certificate, and a word of many messages. Dots divide labels, because
// hosts may be called by their full name.
func (r *report) nodeName() {
	if name := r.Node.Name; !isName(name) {
		r.fail("node.name", "%q is no DNS name (RFC 1123), as certificates and registries need it; use letters, digits and -, such as r1n1, with at most %d of them between dots", name, maxLabel)
	}
	if a := r.Node.Address.Addr; a.Is6() && a.IsLinkLocalUnicast() {
		r.fail("node.address", "%s is link-local, which other networks cannot use as next hop; write a global address of this node", a)
	}
}

func isName(name string) bool {
	if len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		inside := strings.TrimFunc(label, func(c rune) bool {
			return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
		})
		if label == "" || len(label) > maxLabel || inside != "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
	}
	return true
}

// The AS numbers that no network can have (RFC 7300).
const lastAS16, lastAS32 = math.MaxUint16, math.MaxUint32

// numbers rejects AS numbers and routing tables that are reserved.
func (r *report) numbers() {
	as := func(field string, n uint32) {
		if n == lastAS16 || n == lastAS32 {
			r.fail(field, "%d is reserved (RFC 7300), and routers reject it; use your own AS, or a private one from 64512 to 65534 or from 4200000000 to 4294967294", n)
		}
	}
	as("bgp.asn", r.BGP.ASN)
	for i, p := range r.BGP.Peers {
		if p.ASN != r.BGP.ASN { // else it is the same mistake
			as(r.Places.Peer(i)+".asn", p.ASN)
		}
		as(r.Places.Peer(i)+".localASN", p.LocalAS)
	}
	switch table := r.FIB.Table; table {
	case unix.RT_TABLE_DEFAULT:
		r.fail("fib.table", "%d is the table default, which the kernel reads after main: a default route there hides all routes; use 254 (main), or a table with a rule of its own", table)
	case unix.RT_TABLE_LOCAL:
		r.fail("fib.table", "%d is the table local, which belongs to the kernel; use 254 (main)", table)
	case ours.GatewayTable:
		r.fail("fib.table", "%d is the table of onlink's gateways over IPv6 tunnels; use another, such as 254 (main)", table)
	}
}

// routerID rejects that of a peer of our AS: neither accepts the other's OPEN
// (RFC 6286 section 2.2).
func (r *report) routerID() {
	id := r.BGP.RouterID
	if !id.IsValid() || id == r.Node.Address.Addr {
		return
	}
	for i, p := range r.BGP.Peers {
		if p.Address == id && !p.External(r.BGP.ASN) {
			r.fail("bgp.routerID", "%s is the address of %s (%s), a router of the same AS, whose router ID it is by default: two with one ID have no session (RFC 6286); use auto or an ID of this node's own", id, p.Name, r.Places.Peer(i))
		}
	}
}
