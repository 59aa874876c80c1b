package pod

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// watch receives the kernel's notifications of one new interface in a pod. Two
// settings take effect a little after the system call that makes them, in a
// worker of the kernel, and until then packets are silently dropped:
//
//   - The end of a veth that is opened first has no carrier yet, so its queues
//     stay off until the kernel notices the carrier.
//   - An IPv6 address, also one without duplicate address detection, has no
//     local route at first, so nothing that is sent to it arrives.
//
// A pod that sends at once would lose its first packets.
type watch struct{ *socket }

// dialWatch subscribes to multicast groups in the thread's current namespace. It
// receives no earlier events.
func dialWatch(groups ...uint) (*watch, error) {
	s, err := dialSocket(make([]byte, socketBuffer))
	if err != nil {
		return nil, err
	}
	var bits uint32
	for _, g := range groups {
		bits |= 1 << (g - 1)
	}
	// Without a port of its own a socket is passed over in broadcasts.
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: bits}); err != nil {
		s.close()
		return nil, fmt.Errorf("subscribe to link and route changes: %w", err)
	}
	return &watch{s}, nil
}

// until returns when a message has made done true.
func (s *watch) until(what string, done func(rtnl.Message) bool) error {
	for {
		got, err := s.receive()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		for msg := range got.All() {
			if done(msg) {
				return nil
			}
		}
	}
}

// awaitRoutes returns when the IPv6 ones of addresses are routed to the host
// itself.
func (s *watch) awaitRoutes(addresses []netip.Addr) error {
	missing := map[netip.Addr]bool{}
	for _, a := range addresses {
		if a.Is6() {
			missing[a] = true
		}
	}
	return s.until("the local routes of IPv6 addresses", func(m rtnl.Message) bool {
		delete(missing, localRoute(m))
		return len(missing) == 0
	})
}

// awaitCarrier returns when the pod's end can send. Since Linux 6.8 the kernel
// reads the carrier when the link is queried, and there is nothing to wait for;
// earlier kernels notify it later.
func (w *Wiring) awaitCarrier(th *thread, pod *socket) error {
	if up, err := pod.isUp(w.podIndex); up || err != nil {
		return err
	}
	if err := th.enter(w.NetnsFile); err != nil {
		return err
	}
	seen, err := dialWatch(unix.RTNLGRP_LINK)
	if err := errors.Join(err, th.leave()); err != nil {
		return err
	}
	defer seen.close()
	// The carrier may have come up before the subscription.
	if up, err := pod.isUp(w.podIndex); up || err != nil {
		return err
	}
	return seen.until("the carrier", func(m rtnl.Message) bool { return linkUp(m, w.podIndex) })
}

// extSkipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h.
const extSkipStats = 1 << 3

// isUp queries whether the link with an index is up.
func (s *socket) isUp(index int32) (up bool, err error) {
	m := rtnl.Batch{}
	m.Add("check the new interface", unix.RTM_GETLINK, 0)
	m.Link(rtnl.Link{Index: index})
	m.AttrUint32(unix.IFLA_EXT_MASK, extSkipStats)
	err = s.ask(&m, func(m rtnl.Message) { up = up || linkUp(m, index) })
	return up, err
}

// operUp is IF_OPER_UP (RFC 2863, linux/if.h).
const operUp = 6

// linkUp reports whether m shows the link with an index as up.
func linkUp(m rtnl.Message, index int32) bool {
	link, attrs, ok := rtnl.ParseLink(m.Body)
	if m.Type != unix.RTM_NEWLINK || !ok || link.Index != index {
		return false
	}
	for kind, value := range attrs.All() {
		if kind == unix.IFLA_OPERSTATE && len(value) > 0 {
			return value[0] == operUp
		}
	}
	return false
}

// localRoute returns the address that m routes to this host, the zero Addr if it
// is any other message.
func localRoute(m rtnl.Message) netip.Addr {
	route, attrs, ok := rtnl.ParseRoute(m.Body)
	if m.Type != unix.RTM_NEWROUTE || !ok || route.Type != unix.RTN_LOCAL {
		return netip.Addr{}
	}
	for kind, value := range attrs.All() {
		if kind == unix.RTA_DST {
			return rtnl.Addr(value)
		}
	}
	return netip.Addr{}
}
