package underlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// Trace is the policy rule and the route that decide on a packet. The kernel does
// not name them when it refuses the packet, so they are found in its lists, as it
// would (ip-rule(8)): marks, ports and protocols are taken as absent.
type Trace struct {
	Rule  Rule
	Route KernelRoute
	Found bool // there is a route; false: no rule leads to one
}

// Rule is a policy rule.
type Rule struct {
	Priority uint32
	Table    uint32
	Text     string // as ip-rule(8) shows it, without the priority
	Drops    string // blackhole, unreachable or prohibit: the rule itself drops; "": it names a table
	// Common is set for the rules of every kernel: those of tables local, main and
	// default, and the one for VRF devices.
	Common bool
	VRF    bool // the one for VRF devices
}

// TraceOf finds the rule and the route that decide on a packet.
func TraceOf(p Packet) (Trace, error) {
	d, err := openDumper()
	if err != nil {
		return Trace{}, err
	}
	defer func() { _ = d.close() }() // only asked with
	t := tracer{packet: p, tables: map[uint32][]listed{}}
	if p.In != "" {
		l, err := Link(p.In)
		if err != nil {
			return Trace{}, err
		}
		t.vrf = l.VRFTable
	}
	if err := t.list(d); err != nil {
		return Trace{}, fmt.Errorf("list rules and routes: %w", err)
	}
	out := t.follow()
	if out.Found && t.device != 0 {
		if out.Route.Dev, err = d.name(t.device); err != nil {
			return out, err
		}
	}
	return out, nil
}

// listed is a route of a list.
type listed struct {
	KernelRoute

	device int32
	src    netip.Prefix // of a source-specific route; invalid: none
	dead   bool         // no member is usable
}

// fullRule is a rule with everything that it matches.
type fullRule struct {
	Rule

	from, to netip.Prefix
	in, out  string
	invert   bool
	marked   bool // it matches packets with a mark alone
	special  bool // it matches what a trace has not: ports, users and so on
	suppress int  // routes of at most this length are passed over; -1: none
	target   uint32
	action   uint8
}

// tracer follows a packet through the rules.
type tracer struct {
	packet Packet
	vrf    uint32 // table of the VRF of the packet's device, 0: none
	rules  []fullRule
	tables map[uint32][]listed
	device int32 // of the route found
}

// list reads the rules and routes of the packet's family.
func (t *tracer) list(d *dumper) error {
	family := rtnl.Family(t.packet.To.Unmap())
	all := question(func(b *rtnl.Builder) { b.Rule(rtnl.Rule{Family: family}) })
	err := d.dump(unix.RTM_GETRULE, all, func() { t.rules = nil }, func(m rtnl.Message) {
		if r, ok := parseFullRule(m.Body); ok {
			t.rules = append(t.rules, r)
		}
	})
	if err := unlessUnsupported(err); err != nil {
		return err
	}
	if len(t.rules) == 0 { // a kernel without policy routing
		for i, table := range []uint32{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN} {
			t.rules = append(t.rules, fullRule{Rule: Rule{Priority: uint32(i), Table: table, Common: true}, suppress: -1, action: unix.FR_ACT_TO_TBL})
		}
	}
	slices.SortStableFunc(t.rules, func(a, b fullRule) int { return cmp.Compare(a.Priority, b.Priority) })
	to := t.packet.To.Unmap().WithZone("")
	all = question(func(b *rtnl.Builder) { b.Route(&rtnl.Route{Family: family}) })
	return d.dump(unix.RTM_GETROUTE, all, func() { clear(t.tables) }, func(m rtnl.Message) {
		if r, ok := parseListed(m.Body); ok && r.Dst.Contains(to) {
			t.tables[r.Table] = append(t.tables[r.Table], r)
		}
	})
}

// follow returns the first rule that decides, and its route.
func (t *tracer) follow() Trace {
	after := uint32(0) // of a goto
	for i := range t.rules {
		r := &t.rules[i]
		if r.Priority < after || !t.matches(r) {
			continue
		}
		table := r.Table
		switch r.action {
		case unix.FR_ACT_GOTO:
			after = r.target
			continue
		case unix.FR_ACT_TO_TBL:
			if r.VRF {
				table = t.vrf
			}
		default:
			if r.Drops != "" {
				return Trace{Rule: r.Rule}
			}
			continue
		}
		if found, ok := t.lookup(table, r.suppress); ok {
			t.device = found.device
			rule := r.Rule
			rule.Table = table
			return Trace{Rule: rule, Route: found.KernelRoute, Found: true}
		}
	}
	return Trace{}
}

// matches reports whether a rule matches the packet.
func (t *tracer) matches(r *fullRule) bool {
	if r.special || r.marked || r.out != "" || r.VRF && t.vrf == 0 {
		return false
	}
	in := t.packet.In
	if in == "" {
		in = "lo"
	}
	hit := (r.in == "" || r.in == in) &&
		(!r.from.IsValid() || r.from.Contains(t.packet.From.Unmap().WithZone(""))) &&
		(!r.to.IsValid() || r.to.Contains(t.packet.To.Unmap().WithZone("")))
	return hit != r.invert
}

// lookup returns the longest match of a table with the lowest metric; a throw
// route ends the table without one.
func (t *tracer) lookup(table uint32, suppress int) (listed, bool) {
	var best listed
	found := false
	for _, r := range t.tables[table] {
		if r.dead || r.src.IsValid() && !r.src.Contains(t.packet.From.Unmap().WithZone("")) {
			continue
		}
		if !found || r.Dst.Bits() > best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && r.Metric < best.Metric {
			best, found = r, true
		}
	}
	if !found || best.Type == unix.RTN_THROW || best.Dst.Bits() <= suppress {
		return listed{}, false
	}
	return best, true
}

// parseListed reads RTM_NEWROUTE.
func parseListed(b []byte) (listed, bool) {
	h, attrs, ok := rtnl.ParseRoute(b)
	if !ok || h.Flags&unix.RTM_F_CLONED != 0 || h.TOS != 0 {
		return listed{}, false
	}
	var r listed
	r.device = r.read(b)
	const lost = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
	r.dead = h.Flags&lost != 0
	for kind, v := range attrs.All() {
		switch kind {
		case unix.RTA_SRC:
			r.src = netip.PrefixFrom(rtnl.Addr(v), int(h.SrcLen)).Masked()
		case unix.RTA_MULTIPATH:
			r.dead = !aliveHop(v)
		}
	}
	return r, r.Dst.IsValid()
}

// aliveHop reports whether a member of RTA_MULTIPATH is usable.
func aliveHop(b []byte) bool {
	const flagsAt = 2 // in struct rtnexthop
	var h rtnl.Hop
	for hops := rtnl.Hops(b); len(hops) > flagsAt; {
		flags := hops[flagsAt]
		if !hops.Next(&h) {
			return false
		}
		if flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) == 0 {
			return true
		}
	}
	return false
}

// ruleDrops names the actions of a rule that drop.
var ruleDrops = map[uint8]string{unix.FR_ACT_BLACKHOLE: "blackhole", unix.FR_ACT_UNREACHABLE: "unreachable", unix.FR_ACT_PROHIBIT: "prohibit"}

// parseFullRule reads RTM_NEWRULE.
func parseFullRule(b []byte) (fullRule, bool) {
	h, attrs, ok := rtnl.ParseRule(b)
	if !ok {
		return fullRule{}, false
	}
	plain, _ := parseRule(b)
	r := fullRule{suppress: -1, action: h.Action, invert: h.Flags&unix.FIB_RULE_INVERT != 0, special: h.TOS != 0}
	r.Priority, r.Table, r.Drops = plain.priority, plain.table, ruleDrops[h.Action]
	r.Common, r.VRF = plain.ordinary() && !plain.ours, plain.vrf
	for kind, v := range attrs.All() {
		switch kind {
		case unix.FRA_SRC:
			r.from = netip.PrefixFrom(rtnl.Addr(v), int(h.SrcLen)).Masked()
		case unix.FRA_DST:
			r.to = netip.PrefixFrom(rtnl.Addr(v), int(h.DstLen)).Masked()
		case unix.FRA_IIFNAME:
			r.in = rtnl.String(v)
		case unix.FRA_OIFNAME:
			r.out = rtnl.String(v)
		case unix.FRA_FWMARK:
			r.marked = rtnl.Uint32(v) != 0
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.suppress = int(int32(rtnl.Uint32(v))) //nolint:gosec // -1 is none
		case unix.FRA_GOTO:
			r.target = rtnl.Uint32(v)
		case unix.FRA_UID_RANGE, unix.FRA_IP_PROTO, unix.FRA_SPORT_RANGE, unix.FRA_DPORT_RANGE, unix.FRA_TUN_ID:
			r.special = true
		}
	}
	r.Text = r.describe()
	return r, true
}

// describe renders the rule as ip-rule(8) does.
func (r *fullRule) describe() string {
	words := []string{}
	if r.invert {
		words = append(words, "not")
	}
	from := "all"
	if r.from.IsValid() {
		from = r.from.String()
	}
	words = append(words, "from "+from)
	if r.to.IsValid() {
		words = append(words, "to "+r.to.String())
	}
	if r.in != "" {
		words = append(words, "iif "+r.in)
	}
	if r.out != "" {
		words = append(words, "oif "+r.out)
	}
	switch {
	case r.Drops != "":
		words = append(words, r.Drops)
	case r.VRF:
		words = append(words, "lookup [l3mdev-table]")
	case r.action == unix.FR_ACT_GOTO:
		words = append(words, fmt.Sprintf("goto %d", r.target))
	default:
		words = append(words, "lookup "+TableName(r.Table))
	}
	return strings.Join(words, " ")
}

// TableName returns iproute2's name of a routing table, or its number.
func TableName(table uint32) string {
	switch table {
	case unix.RT_TABLE_MAIN:
		return "main"
	case unix.RT_TABLE_LOCAL:
		return "local"
	case unix.RT_TABLE_DEFAULT:
		return "default"
	}
	return strconv.FormatUint(uint64(table), 10)
}

// typeNames are the kinds of routes, as ip-route(8) names them.
var typeNames = map[uint8]string{
	unix.RTN_UNICAST: "unicast", unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast",
	unix.RTN_MULTICAST: "multicast", unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable",
	unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw", unix.RTN_NAT: "nat",
}

// TypeName returns ip-route(8)'s name of the route's type.
func (r KernelRoute) TypeName() string {
	if name := typeNames[r.Type]; name != "" {
		return name
	}
	return fmt.Sprintf("type %d", r.Type)
}

// Drops reports whether the route drops its packets.
func (r KernelRoute) Drops() bool {
	return r.Type == unix.RTN_BLACKHOLE || r.Type == unix.RTN_UNREACHABLE || r.Type == unix.RTN_PROHIBIT
}
