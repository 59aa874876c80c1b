package lab

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/conf"
)

// torReady bounds how long a ToR may take to start.
const torReady = 40 * time.Second

// ToR is one top-of-rack router: the rack's gateway, an eBGP peer of its
// nodes and of the other ToRs.
type ToR struct {
	NS     *NS
	Name   string
	Number int // of the rack
	Index  int // 0 or 1 inside the rack
	ASN    uint32
	Addr   netip.Addr // in the rack
	Addr6  netip.Addr
	Core   netip.Addr // towards the other ToRs; also the router ID
	Core6  netip.Addr
	// Announce is told to the rack's nodes besides the service prefix, from the
	// next Start on (BIRD only; IPv6 where the pool has a CIDR6).
	Announce []netip.Prefix
	// Through is announced likewise, with the next hop that is named: a
	// neighbour of the router, not of the nodes.
	Through map[netip.Prefix]netip.Addr
	// Over6 are IPv4 prefixes and their IPv6 next hops (RFC 8950), announced
	// over a second session, from Addr6 to the nodes' Addr6. A node takes part
	// when [ToR.Peer6] is among its peers.
	Over6 map[netip.Prefix]netip.Addr
	// Transit tells every node what the others announce, as the routers of an
	// eBGP fabric do, from the next Start on (BIRD only).
	Transit bool
	// Reflectors has the rack's reflectors among the router's peers, too, from the next
	// Start on (BIRD only).
	Reflectors bool
	// Accept are prefixes outside the pool, such as those of services, of which
	// the nodes may announce parts, from the next Start on (BIRD only).
	Accept []netip.Prefix
	// BFD watches all neighbours, 300 ms x 3, from the next Start on (BIRD only).
	BFD bool
	// NodeASN holds the AS of nodes that have another one than [NodeASN], by
	// name (BIRD only).
	NodeASN map[string]uint32

	lab   *Lab
	procs []*Process
}

// newToR makes the router's namespace and plugs it into rack and core.
func (l *Lab) newToR(rack *Rack, index int) (*ToR, error) {
	name := fmt.Sprintf("tor%d", rack.Number)
	host := rack.Number
	if index > 0 {
		name += "b"
		host += 100
	}
	t := &ToR{
		Name: name, Number: rack.Number, Index: index, lab: l,
		ASN:  uint32(65000 + host),
		Addr: rackAddr(rack.Number, 1+index), Addr6: rackAddr6(rack.Number, 1+index),
		Core: coreAddr(host), Core6: coreAddr6(host),
	}
	var err error
	if t.NS, err = l.namespace(name); err != nil {
		return nil, err
	}
	s := steps{}
	if l.Spec.DualStack {
		// A router solicits neighbours from its link-local address. While
		// duplicate detection holds that back (1 to 2 s after a link comes up)
		// what it forwards is lost, though it already announces its networks.
		for _, which := range []string{"all", "default"} {
			s.do(func() error { return t.NS.Sysctl("net/ipv6/conf/"+which+"/accept_dad", "0") })
		}
	}
	s.do(func() error { return plug(rack.Switch, name, t.NS, "rack") })
	s.do(func() error { return plug(l.core, name, t.NS, "core") })
	s.do(func() error { return t.NS.AddAddr("rack", netip.PrefixFrom(t.Addr, 24)) })
	s.do(func() error { return t.NS.AddAddr("core", netip.PrefixFrom(t.Core, 24)) })
	s.do(func() error { return t.NS.Sysctl("net/ipv4/ip_forward", "1") })
	// Two ToRs a rack make the way back differ from the way there.
	s.do(func() error { return t.NS.Sysctl("net/ipv4/conf/all/rp_filter", "0") })
	s.do(func() error { return t.NS.Sysctl("net/ipv4/conf/rack/rp_filter", "0") })
	s.do(func() error { return t.NS.Sysctl("net/ipv4/conf/core/rp_filter", "0") })
	// The ToR answers for every path, also when a packet leaves as it came.
	s.do(func() error { return t.NS.Sysctl("net/ipv4/conf/all/send_redirects", "0") })
	s.do(func() error { return t.NS.Sysctl("net/ipv4/conf/rack/send_redirects", "0") })
	if l.Spec.DualStack {
		s.do(func() error { return t.NS.AskAgainSoon("rack") })
		s.do(func() error { return t.NS.AskAgainSoon("core") })
		s.do(func() error { return t.NS.AddAddr("rack", netip.PrefixFrom(t.Addr6, 64)) })
		s.do(func() error { return t.NS.AddAddr("core", netip.PrefixFrom(t.Core6, 64)) })
		s.do(func() error { return t.NS.Sysctl("net/ipv6/conf/all/forwarding", "1") })
		// A device that comes back has its addresses, as in IPv4.
		s.do(func() error { return t.NS.Sysctl("net/ipv6/conf/all/keep_addr_on_down", "1") })
	}
	if l.Spec.Uplink {
		s.do(func() error { return t.NS.addRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), coreAddr(254)) })
	}
	return t, s.err
}

// Start runs the router's program; it returns when the program has its
// configuration. Sessions come up later: see [Lab.WaitToRs].
func (t *ToR) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, torReady)
	defer cancel()
	if t.lab.Spec.ToR == FRR {
		return t.startFRR(ctx)
	}
	return t.startBIRD(ctx)
}

// Stop ends the router's programs with SIGTERM.
func (t *ToR) Stop() error {
	s := steps{}
	for _, p := range t.procs {
		s.all(p.Stop)
	}
	s.all(t.cleanFRR)
	t.procs = nil
	return s.err
}

// Kill ends the router's programs with SIGKILL.
func (t *ToR) Kill() error {
	s := steps{}
	for _, p := range t.procs {
		s.all(p.Kill)
	}
	s.all(t.cleanFRR)
	t.procs = nil
	return s.err
}

// Logs returns the end of what the router's programs wrote.
func (t *ToR) Logs(lines int) string {
	return tail(t.file("log"), lines)
}

// file names a file of this router in the lab's directory.
func (t *ToR) file(ext string) string {
	return filepath.Join(t.lab.Dir, t.Name+"."+ext)
}

// Peer6 is the entry in a node's list of peers for the session of Over6.
func (t *ToR) Peer6() *conf.Peer {
	p := t.Peer()
	p.Name, p.Address = t.Name+"over6", t.Addr6.String()
	p.Import.Accept = conf.Rules(slices.SortedFunc(maps.Keys(t.Over6), netip.Prefix.Compare)...)
	p.Import.DisableConnectedCheck = true // the next hops of Over6 are other nodes and routers: a third party to this session
	return p
}

// protocol is the kernel's route protocol of the routes the router learned.
func (t *ToR) protocol() int {
	if t.lab.Spec.ToR == FRR {
		return unix.RTPROT_BGP
	}
	return unix.RTPROT_BIRD
}

// service returns the rack's part of the prefixes ToRs announce to nodes.
func (t *ToR) service() (netip.Prefix, bool) {
	p := t.lab.Spec.Service
	if !p.IsValid() {
		return p, false
	}
	a := p.Addr().As4()
	a[2] += byte(t.Number)
	return netip.PrefixFrom(netip.AddrFrom4(a), 24), true
}

// nodeASN returns the AS of one of the rack's nodes.
func (t *ToR) nodeASN(n *Node) uint32 {
	if asn, ok := t.NodeASN[n.Name]; ok {
		return asn
	}
	return NodeASN
}

// others returns all ToRs but this one.
func (t *ToR) others() []*ToR {
	var out []*ToR
	for _, o := range t.lab.ToRs() {
		if o != t {
			out = append(out, o)
		}
	}
	return out
}

// ToRKinds returns the routing programs that are installed on this machine.
func ToRKinds() []ToRKind {
	var out []ToRKind
	for kind, program := range map[ToRKind]string{BIRD: "bird", FRR: "bgpd"} {
		if _, err := lookPath(program); err == nil {
			out = append(out, kind)
		}
	}
	slices.Sort(out)
	return out
}
