package cni

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// watch hears what the kernel reports of one new interface in a pod. Two
// things become true a little after the system call that asks for them, in a
// worker of the kernel, and until then packets are silently dropped:
//
//   - The end of a veth that is opened first has no carrier yet, so its queues
//     stay off until the kernel notices the carrier.
//   - An IPv6 address, also one without duplicate address detection, has no
//     local route at first, so nothing that is sent to it arrives.
//
// A pod that starts talking at once would lose its first packets.
type watch struct{ *rtnl }

// dialWatch starts to listen in the thread's current namespace, which must
// happen before the interface is made: nothing is asked later.
func dialWatch() (watch, error) {
	s, err := dialRtnl()
	if err != nil {
		return watch{}, err
	}
	// Without a port of its own a socket is passed over in broadcasts.
	groups := uint32(1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1))
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		s.close()
		return watch{}, fmt.Errorf("subscribe to link and route changes: %w", err)
	}
	return watch{s}, nil
}

// wait returns when the link of an index is up and the IPv6 ones of addresses
// are routed to it.
func (s watch) wait(index int32, addresses []netip.Addr) error {
	up := false
	missing := map[netip.Addr]bool{}
	for _, a := range addresses {
		if a.Is6() {
			missing[a] = true
		}
	}
	buf := make([]byte, 8<<10)
	for !up || len(missing) > 0 {
		var n int
		err := retryEINTR(func() (err error) { n, err = unix.Read(s.fd, buf); return err })
		if err != nil {
			return fmt.Errorf("wait for interface (up %v, addresses not yet routed %d): %w", up, len(missing), err)
		}
		for msg := range messages(buf[:n]) {
			up = up || msg.isUp(index)
			delete(missing, msg.localRoute())
		}
	}
	return nil
}

// operUp is IF_OPER_UP (RFC 2863, linux/if.h).
const operUp = 6

// isUp reports whether m says that the link with an index is up.
func (m message) isUp(index int32) bool {
	if m.kind != unix.RTM_NEWLINK || len(m.body) < unix.SizeofIfInfomsg || int32(binary.NativeEndian.Uint32(m.body[4:])) != index {
		return false
	}
	for kind, value := range attributes(m.body[unix.SizeofIfInfomsg:]) {
		if kind == unix.IFLA_OPERSTATE && len(value) > 0 {
			return value[0] == operUp
		}
	}
	return false
}

// localRoute returns the address that m says is routed to this host, the zero
// Addr if it says anything else.
func (m message) localRoute() netip.Addr {
	if m.kind != unix.RTM_NEWROUTE || len(m.body) < unix.SizeofRtMsg || m.body[7] != unix.RTN_LOCAL {
		return netip.Addr{}
	}
	for kind, value := range attributes(m.body[unix.SizeofRtMsg:]) {
		if kind == unix.RTA_DST {
			addr, _ := netip.AddrFromSlice(value)
			return addr
		}
	}
	return netip.Addr{}
}
