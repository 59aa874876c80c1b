package pod

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// Numbers of linux/veth.h, linux/ip.h and linux/if_link.h that x/sys lacks.
const (
	vethInfoPeer      = 1
	devconfForwarding = 1
	devconfSendRedir  = 6
	devconfRPFilter   = 8
	devconfRouteLocal = 26
	rpFilterStrict    = 1 // RFC 3704 section 2.2
	firstPodIndex     = 1 << 10
	podIndexes        = 1 << 11
	firstHostIndex    = 1 << 20
	hostIndexes       = 1 << 24
	queuesPerVeth     = 1 // more make the kernel wait for an RCU grace period
)

// chooseIndexes chooses both interface indexes; another try makes another choice.
// The pod's comes from the attachment, so that several interfaces of a pod rarely
// choose the same. Those of the host are consecutive: the kernel makes room for
// neighbours faster than for scattered numbers.
func (w *Wiring) chooseIndexes(th *thread, try int) {
	sum := sha256.Sum256(append([]byte(w.Key()), byte(try)))
	w.podIndex = firstPodIndex + int32(binary.BigEndian.Uint32(sum[:])%podIndexes)
	w.hostIndex = firstHostIndex + int32(th.nextIndex%hostIndexes)
	th.nextIndex++
}

// createBatch makes the veth, in one message sent from the pod's namespace:
// the pod's end under its final name and up, the host's end in the namespace
// home refers to. Moving or renaming an end later would each wait for an RCU
// grace period, 16 to 20 ms under the RTNL lock.
func (w *Wiring) createBatch(home int) *rtnl.Batch {
	m := rtnl.NewBatch(256)
	m.Add("create veth "+w.IfName, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.Link(rtnl.Link{Index: w.podIndex, Flags: unix.IFF_UP, Change: unix.IFF_UP})
	w.linkAttrs(m, w.IfName, w.MAC)
	m.Nest(unix.IFLA_LINKINFO, func() {
		m.AttrString(unix.IFLA_INFO_KIND, "veth")
		m.Nest(unix.IFLA_INFO_DATA, func() {
			m.Nest(vethInfoPeer, func() {
				m.Link(rtnl.Link{Index: w.hostIndex})
				w.linkAttrs(m, w.hostDevice, hostMAC)
				m.AttrUint32(unix.IFLA_GROUP, w.group())
				m.AttrUint32(unix.IFLA_NET_NS_FD, uint32(home))
			})
		})
	})
	return m
}

// group is the interface group of the host end.
func (w *Wiring) group() uint32 {
	if w.probe {
		return ours.PodEnded // the next agent removes that of a killed one
	}
	return ours.PodServing
}

func (w *Wiring) linkAttrs(m *rtnl.Batch, name string, mac []byte) {
	m.AttrString(unix.IFLA_IFNAME, name)
	m.Attr(unix.IFLA_ADDRESS, mac)
	if w.MTU != 0 {
		m.AttrUint32(unix.IFLA_MTU, uint32(w.MTU))
	}
	m.AttrUint32(unix.IFLA_NUM_TX_QUEUES, queuesPerVeth)
	m.AttrUint32(unix.IFLA_NUM_RX_QUEUES, queuesPerVeth)
}

// Gateways returns the pod's gateways, one per family it has an address of.
func (w *Wiring) Gateways() []netip.Addr {
	var out []netip.Addr
	for _, a := range w.Addresses {
		switch {
		case a.Is4() && (len(out) == 0 || out[0] != gateway4):
			out = append([]netip.Addr{gateway4}, out...)
		case a.Is6() && (len(out) == 0 || out[len(out)-1] != gateway6):
			out = append(out, gateway6)
		}
	}
	return out
}

// podBatch puts addresses, routes and the gateways' neighbour entries on the
// pod's end.
func (w *Wiring) podBatch() *rtnl.Batch {
	m := rtnl.NewBatch(512)
	for _, a := range w.Addresses {
		m.Add("add address "+a.String(), unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		m.Address(rtnl.Address{Family: rtnl.Family(a), PrefixLen: uint8(a.BitLen()), Scope: unix.RT_SCOPE_UNIVERSE, Index: w.podIndex})
		m.AttrAddr(unix.IFA_LOCAL, a)
		m.AttrAddr(unix.IFA_ADDRESS, a)
		if a.Is6() {
			// No other host can have the address: no duplicate detection, which would
			// keep it unusable for a second (RFC 4862 section 5.4).
			m.AttrUint32(unix.IFA_FLAGS, unix.IFA_F_NODAD|unix.IFA_F_PERMANENT)
		}
	}
	for _, g := range w.Gateways() {
		if g.Is4() { // IPv6's is link-local and needs no route
			w.gatewayRoute(m, g, 0)
		}
		w.defaultRoute(m, g, 0)
		w.neighbour(m, g, hostMAC, w.podIndex)
	}
	return m
}

func opGateway(g netip.Addr) string { return "add route to gateway " + g.String() }
func opDefault(g netip.Addr) string { return "add default route via " + g.String() }

// gatewayRoute appends the pod's route to its gateway; metric 0 is the
// kernel's default.
func (w *Wiring) gatewayRoute(m *rtnl.Batch, g netip.Addr, metric uint32) {
	m.Add(opGateway(g), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.Route(&rtnl.Route{
		Family: rtnl.Family(g), DstLen: uint8(g.BitLen()), Table: unix.RT_TABLE_MAIN,
		Protocol: unix.RTPROT_BOOT, Scope: unix.RT_SCOPE_LINK, Type: unix.RTN_UNICAST,
	})
	m.AttrAddr(unix.RTA_DST, g)
	w.exit(m, metric)
}

// defaultRoute appends the pod's default route. One with a metric is on-link,
// because the kernel would look the gateway up on another interface.
func (w *Wiring) defaultRoute(m *rtnl.Batch, g netip.Addr, metric uint32) {
	var flags uint32
	if metric != 0 {
		flags = unix.RTNH_F_ONLINK
	}
	m.Add(opDefault(g), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.Route(&rtnl.Route{
		Family: rtnl.Family(g), Table: unix.RT_TABLE_MAIN,
		Protocol: unix.RTPROT_BOOT, Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST, Flags: flags,
	})
	m.AttrAddr(unix.RTA_GATEWAY, g)
	w.exit(m, metric)
}

// exit appends a pod route's interface and metric.
func (w *Wiring) exit(m *rtnl.Batch, metric uint32) {
	m.AttrUint32(unix.RTA_OIF, uint32(w.podIndex))
	if metric != 0 {
		m.AttrUint32(unix.RTA_PRIORITY, metric)
	}
}

// neighbour appends a permanent neighbour entry: the first packet waits for no
// resolution, and none can be forged.
func (w *Wiring) neighbour(m *rtnl.Batch, a netip.Addr, mac []byte, index int32) {
	m.Add("add neighbour "+a.String(), unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m.Neighbour(rtnl.Neighbour{Family: rtnl.Family(a), Index: index, State: unix.NUD_PERMANENT})
	m.AttrAddr(unix.NDA_DST, a)
	m.Attr(unix.NDA_LLADDR, mac)
}

// hostBatch names the host's end, opens it, and routes the addresses to it.
// The IPv4 settings travel in the same message: files in /proc/sys would cost
// a path walk each. IPv6 has no such message; its forwarding is inherited from
// the agent's net.ipv6.conf.default.
func (w *Wiring) hostBatch() *rtnl.Batch {
	m := rtnl.NewBatch(768)
	m.Add("set up "+w.hostDevice, unix.RTM_NEWLINK, 0)
	m.Link(rtnl.Link{Index: w.hostIndex, Flags: unix.IFF_UP, Change: unix.IFF_UP})
	m.AttrString(unix.IFLA_IFALIAS, w.Alias())
	m.Nest(unix.IFLA_AF_SPEC, func() {
		m.Nest(unix.AF_INET, func() {
			m.Nest(unix.IFLA_INET_CONF, func() {
				m.AttrUint32(devconfForwarding, 1)
				m.AttrUint32(devconfRPFilter, rpFilterStrict) // a pod can send from its own addresses only
				m.AttrUint32(devconfRouteLocal, 0)
				m.AttrUint32(devconfSendRedir, 0) // a pod has one way out
			})
		})
	})
	for _, a := range w.Addresses {
		if w.probe {
			break
		}
		w.hostRoute(m, a, unix.NLM_F_EXCL)
		w.neighbour(m, a, w.MAC, w.hostIndex)
	}
	return m
}

func opHostRoute(a netip.Addr) string { return "add route to " + a.String() }

// hostRoute appends the route to one address; mode is NLM_F_EXCL or
// NLM_F_REPLACE.
func (w *Wiring) hostRoute(m *rtnl.Batch, a netip.Addr, mode uint16) {
	m.Add(opHostRoute(a), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|mode)
	m.Route(&rtnl.Route{
		Family: rtnl.Family(a), DstLen: uint8(a.BitLen()), Table: w.Table,
		Protocol: ours.Protocol, Scope: unix.RT_SCOPE_LINK, Type: unix.RTN_UNICAST,
	})
	m.AttrAddr(unix.RTA_DST, a)
	m.AttrUint32(unix.RTA_OIF, uint32(w.hostIndex))
	if w.Metric != 0 {
		m.AttrUint32(unix.RTA_PRIORITY, w.Metric)
	}
}
