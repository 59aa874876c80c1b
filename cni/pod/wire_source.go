package pod

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// sourceRulePriority comes before main's 32766.
const sourceRulePriority = 1000

const opSourceRule = "add rule for the addresses of a second interface"

// sourceRoutes sends the packets from the addresses of a pod's second interface
// out through it: the first one's default route would take the answers of
// connections that came in here, and the host drops packets from addresses that
// are not the interface's own. The gateway's family selects the addresses. The
// rules end with the pod; without the interface they lead nowhere, and the kernel
// goes on to the next.
func (w *Wiring) sourceRoutes(m *rtnl.Batch, g netip.Addr) {
	table := uint32(w.podIndex) // not one of the kernel's own, which are below 256
	m.Add("add default route of a second interface", unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m.Route(&rtnl.Route{
		Family: rtnl.Family(g), Table: table,
		Protocol: unix.RTPROT_BOOT, Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST, Flags: unix.RTNH_F_ONLINK,
	})
	m.AttrAddr(unix.RTA_GATEWAY, g)
	m.AttrUint32(unix.RTA_OIF, uint32(w.podIndex))
	for _, a := range w.Addresses {
		if a.Is4() != g.Is4() {
			continue
		}
		m.Add(opSourceRule, unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		m.Rule(rtnl.Rule{Family: rtnl.Family(a), SrcLen: uint8(a.BitLen()), Action: unix.FR_ACT_TO_TBL})
		m.AttrAddr(unix.FRA_SRC, a)
		m.AttrUint32(unix.FRA_TABLE, table)
		m.AttrUint32(unix.FRA_PRIORITY, sourceRulePriority)
		m.Attr(unix.FRA_PROTOCOL, []byte{ours.Protocol})
	}
}
