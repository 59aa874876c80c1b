package rtnl

import "golang.org/x/sys/unix"

// sizeofRule is that of struct fib_rule_hdr (linux/fib_rules.h).
const sizeofRule = 12

// Rule is the fixed part of a policy rule, before the attributes (struct
// fib_rule_hdr, ip-rule(8)).
type Rule struct {
	Family         uint8 // AF_INET or AF_INET6
	DstLen, SrcLen uint8 // in bits; 0: the rule matches every address
	TOS            uint8
	Table          uint8  // read: the low 8 bits, unless FRA_TABLE follows
	Action         uint8  // FR_ACT_*
	Flags          uint32 // FIB_RULE_*
}

// ParseRule reads the body of RTM_NEWRULE or RTM_DELRULE.
func ParseRule(b []byte) (r Rule, attrs Attributes, ok bool) {
	if len(b) < sizeofRule {
		return Rule{}, nil, false
	}
	return Rule{
		Family: b[0], DstLen: b[1], SrcLen: b[2], TOS: b[3], Table: b[4], Action: b[7], Flags: native.Uint32(b[8:]),
	}, b[sizeofRule:], true
}

// Rule appends r.
func (b *Builder) Rule(r Rule) {
	b.B = append(b.B, r.Family, r.DstLen, r.SrcLen, r.TOS, r.Table, unix.RT_TABLE_UNSPEC, 0, r.Action)
	b.Uint32(r.Flags)
}
