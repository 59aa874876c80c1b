package underlay

import (
	"fmt"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
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

const sizeofRuleMsg = 12 // struct fib_rule_hdr of linux/fib_rules.h

// parseRule reads RTM_NEWRULE.
func parseRule(b []byte) (rule, bool) {
	if len(b) < sizeofRuleMsg {
		return rule{}, false
	}
	const invert = 0x2 // FIB_RULE_INVERT
	r := rule{family: b[0], table: uint32(b[4])}
	r.bare = b[1] == 0 && b[2] == 0 && b[3] == 0 && native.Uint32(b[8:])&invert == 0 && b[7] == unix.RTN_UNICAST
	for kind, v := range attrs(b[sizeofRuleMsg:]) {
		switch kind {
		case unix.FRA_PRIORITY:
			r.priority = u32(v)
		case unix.FRA_TABLE:
			r.table = u32(v)
		case unix.FRA_L3MDEV:
			r.vrf = len(v) > 0 && v[0] != 0
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.bare = r.bare && u32(v) == ^uint32(0)
		case unix.FRA_PROTOCOL: // who added it
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

// problem describes a rule the copy cannot follow.
func (r rule) problem() string {
	family := "IPv4"
	if r.family == unix.AF_INET6 {
		family = "IPv6"
	}
	return fmt.Sprintf("%s policy rule %d (table %d) is not followed: next hops are judged by tables local and main only",
		family, r.priority, r.table)
}
