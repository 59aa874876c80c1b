package cni

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// Numbers of linux/fib_rules.h that x/sys lacks.
const (
	fraSource   = 2
	fraPriority = 6
	fraTable    = 15
	fraProtocol = 21
	frActTable  = 1 // FR_ACT_TO_TBL

	sourceRulePriority = 1000 // before main's 32766
)

const opSourceRule = "add rule for the addresses of a second interface"

// sourceRoutes makes what a pod sends from the addresses of its second
// interface leave through it: the first one's default route would take the
// answers of connections that came in here, and the host drops packets from
// addresses that are not the interface's own. The gateway's family says which
// addresses are meant. The rules end with the pod; without the interface they
// lead nowhere, and the kernel goes on to the next.
func (w *wiring) sourceRoutes(m *batch, g netip.Addr) {
	table := uint32(w.podIndex) // not one of the kernel's own, which are below 256
	m.begin("add default route of a second interface", unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m.route(g, 0, table, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTNH_F_ONLINK)
	m.attrAddr(unix.RTA_GATEWAY, g)
	m.attr32(unix.RTA_OIF, uint32(w.podIndex))
	for _, a := range w.addresses {
		if a.Is4() != g.Is4() {
			continue
		}
		m.begin(opSourceRule, unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		m.bytes(family(a), 0, byte(a.BitLen()), 0, unix.RT_TABLE_UNSPEC, 0, 0, frActTable)
		m.number(0) // flags
		m.attrAddr(fraSource, a)
		m.attr32(fraTable, table)
		m.attr32(fraPriority, sourceRulePriority)
		m.attr(fraProtocol, []byte{ours.Protocol})
	}
}
