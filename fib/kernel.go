package fib

import (
	"net/netip"
	"syscall"

	"onlink/internal/rtnl"
	"onlink/rib"
)

// kernel is the rtnetlink interface of a Table; *netlink is the real one, and the
// property test has one in memory that injects faults. Dumped values are only
// valid during the callback.
type kernel interface {
	// write carries out the requests in order and stores each one's outcome
	// in its err. A non-nil return means that no outcome is known.
	write(reqs []request) error
	// routes streams the table's routes of one protocol (0: of all).
	routes(protocol uint8, each func(*wireRoute)) error
	// nexthops streams our nexthop objects; unsupported reports EOPNOTSUPP.
	nexthops(each func(*wireNexthop)) error
	// lookup returns the route the kernel uses for the first address of p.
	lookup(p netip.Prefix, r *wireRoute) error
	close() error
	links
}

// verb is the operation of a request.
type verb uint8

const (
	addRoute       verb = iota // NLM_F_CREATE|NLM_F_EXCL: never changes an existing route
	replaceRoute               // NLM_F_REPLACE: the key is known to be ours
	deleteRoute                // only a route of our protocol matches
	addNexthop                 // NLM_F_CREATE|NLM_F_EXCL
	replaceNexthop             // NLM_F_CREATE|NLM_F_REPLACE, in place, without loss
	deleteNexthop
)

// routeKey is the kernel's key of a route within the table.
type routeKey struct {
	prefix netip.Prefix
	metric uint32
	tos    uint8
}

// request is one message of a batch and its outcome.
type request struct {
	verb  verb
	key   routeKey // of a route
	nh    *nexthop // the target of a route, or the object itself
	id    uint32   // object ID to write; of a route 0 means plain attributes
	entry *entry   // whose desired route this is; nil for objects and strays
	err   error    // outcome: nil, or an *rtnl.Error
}

// wireHop is one hop of a kernel route.
type wireHop struct {
	via    netip.Addr
	oif    uint32
	weight uint8 // 0 is the normal weight
	onlink bool
}

// wireRoute is one route of the kernel. Its members stand apart, so that the next
// route is read into it without clearing those that it lacks.
type wireRoute struct {
	wireHead

	hop [rib.MaxHops]wireHop // see hops
}

// wireHead is a route without its members.
type wireHead struct {
	key      routeKey
	table    uint32
	protocol uint8
	kind     uint8 // RTN_*
	source   netip.Addr
	nhid     uint32
	count    int  // members; may exceed the room in hop
	odd      bool // has attributes we never write (encapsulation, metrics)
}

// hops returns the members that fit.
func (r *wireRoute) hops() []wireHop { return r.hop[:min(r.count, len(r.hop))] }

// wireMember is one member of a dumped group.
type wireMember struct {
	id     uint32
	weight uint8
}

// wireNexthop is one nexthop object of the kernel.
type wireNexthop struct {
	id       uint32
	protocol uint8
	v6       bool
	single   wireHop
	count    int // members of a group; 0 for a single object
	member   [rib.MaxHops]wireMember
	odd      bool // blackhole, encapsulated, fdb, or a resilient group
}

// errnoOf returns the errno of a request's outcome, 0 for success.
func errnoOf(err error) syscall.Errno {
	if ke, ok := err.(*rtnl.Error); ok { //nolint:errorlint // request.err is never wrapped
		return ke.Errno
	}
	return 0
}
