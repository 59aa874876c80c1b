package underlay

import (
	"fmt"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// rule is a policy routing rule (ip-rule(8)).
type rule struct {
	family   byte
	priority uint32
	table    uint32
	bare     bool // matches every packet
	vrf      bool // the kernel's one rule for all VRF devices
	ours     bool // onlink's own, for lookups with a tunnel as output device
}

// parseRule reads RTM_NEWRULE.
func parseRule(b []byte) (rule, bool) {
	h, attrs, ok := rtnl.ParseRule(b)
	if !ok {
		return rule{}, false
	}
	r := rule{family: h.Family, table: uint32(h.Table)}
	r.bare = h.DstLen == 0 && h.SrcLen == 0 && h.TOS == 0 && h.Flags&unix.FIB_RULE_INVERT == 0 && h.Action == unix.FR_ACT_TO_TBL
	for kind, v := range attrs.All() {
		switch kind {
		case unix.FRA_PRIORITY:
			r.priority = rtnl.Uint32(v)
		case unix.FRA_TABLE:
			r.table = rtnl.Uint32(v)
		case unix.FRA_L3MDEV:
			r.vrf = len(v) > 0 && v[0] != 0
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.bare = r.bare && rtnl.Uint32(v) == ^uint32(0)
		case unix.FRA_PROTOCOL: // the program that added it
			r.ours = len(v) > 0 && v[0] == ours.Protocol
		default:
			r.bare = false
		}
	}
	return r, true
}

// ordinary reports whether the rule is one of the three every kernel starts
// with, the one for VRF devices, which concerns no packet of ours, or one of
// our own, which concerns no packet of the underlay.
func (r rule) ordinary() bool {
	return r.vrf || r.ours || r.bare && (r.table == unix.RT_TABLE_LOCAL || r.table == unix.RT_TABLE_MAIN || r.table == unix.RT_TABLE_DEFAULT)
}

// problem describes a rule that the copy cannot follow.
func (r rule) problem() string {
	family := "IPv4"
	if r.family == unix.AF_INET6 {
		family = "IPv6"
	}
	return fmt.Sprintf("%s policy rule %d (table %d) is ignored: next hops are resolved in tables local and main only",
		family, r.priority, r.table)
}
