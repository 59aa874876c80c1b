package lab

import (
	"fmt"
	"net/netip"
)

// Host is a machine outside the racks, on the switch between the ToRs: a client,
// or a server such as a cluster's control plane. It has a route to every rack,
// and none to a pod.
type Host struct {
	NS    *NS
	Name  string
	Addr  netip.Addr
	Addr6 netip.Addr // valid only with DualStack

	lab *Lab
}

// AddHost makes a host with the address 10.255.0.NUMBER, and fd57:ffff::NUMBER
// with DualStack; numbers from 201 on are free, but for 254.
func (l *Lab) AddHost(name string, number int) (*Host, error) {
	h := &Host{Name: name, Addr: coreAddr(number), lab: l}
	var err error
	if h.NS, err = l.namespace(name); err != nil {
		return nil, err
	}
	s := steps{}
	s.do(func() error { return plug(l.core, name, h.NS, "core") })
	s.do(func() error { return h.NS.AddAddr("core", netip.PrefixFrom(h.Addr, 24)) })
	if l.Spec.DualStack {
		h.Addr6 = coreAddr6(number)
		s.do(func() error { return h.NS.AskAgainSoon("core") })
		s.do(func() error { return h.NS.AddAddr("core", netip.PrefixFrom(h.Addr6, 64)) })
	}
	for _, rack := range l.Racks {
		s.do(func() error { return h.Through(rackNet(rack.Number), rack.ToRs...) })
		if l.Spec.DualStack {
			s.do(func() error { return h.Through(rackNet6(rack.Number), rack.ToRs...) })
		}
	}
	if s.err != nil {
		return nil, fmt.Errorf("add host %s: %w", name, s.err)
	}
	return h, nil
}

// Through gives the host a route through one or more ToRs.
func (h *Host) Through(dst netip.Prefix, tors ...*ToR) error {
	var gateways []netip.Addr
	for _, t := range tors {
		if dst.Addr().Is4() {
			gateways = append(gateways, t.Core)
		} else {
			gateways = append(gateways, t.Core6)
		}
	}
	return h.NS.addRoute(dst, gateways...)
}
