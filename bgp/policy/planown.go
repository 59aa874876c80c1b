package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// restricted are the own prefixes that only some peers receive.
type restricted struct {
	peers    []string // names, sorted
	prefixes []PrefixRule
}

// exactly is the rule that matches p alone.
func exactly(p netip.Prefix) PrefixRule { return PrefixRule{Prefix: p, Ge: p.Bits(), Le: p.Bits()} }

// takeOwn sorts the own prefixes by their treatment. It comes before the classes
// are made, which depend on it.
func (p *Plan) takeOwn(own []OwnPrefix) {
	at := map[string]int{}
	for _, o := range own {
		if o.Aggregate {
			p.aggregates = append(p.aggregates, o.Prefix)
			if !o.Ending {
				p.hiding = append(p.hiding, o.Prefix)
			}
		}
		if o.Service {
			p.services = append(p.services, o.Prefix)
		} else {
			p.others = append(p.others, o.Prefix)
		}
		if len(o.Peers) == 0 {
			continue
		}
		names := slices.Compact(slices.Sorted(slices.Values(o.Peers)))
		key := strings.Join(names, "\x00")
		i, known := at[key]
		if !known {
			i = len(p.restricted)
			at[key] = i
			p.restricted = append(p.restricted, restricted{peers: names})
		}
		p.restricted[i].prefixes = append(p.restricted[i].prefixes, exactly(o.Prefix))
	}
}

// audience returns, for each list of peers in restricted, whether it has the
// peer. Peers of one class have the same.
func (p *Plan) audience(peer string) string {
	var b strings.Builder
	for _, r := range p.restricted {
		if _, in := slices.BinarySearch(r.peers, peer); in {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

// withheldFrom returns the own prefixes that the peers of a class do not receive.
func (p *Plan) withheldFrom(k *Class) []PrefixRule {
	var out []PrefixRule
	for i, r := range p.restricted {
		if k.audience[i] == '0' {
			out = append(out, r.prefixes...)
		}
	}
	return out
}

// behind returns the own prefixes that an aggregate hides. A service is never one:
// a node without endpoints of it must not attract its packets.
func (p *Plan) behind(aggregate netip.Prefix) []PrefixRule {
	inside := PrefixRule{Prefix: aggregate, Ge: aggregate.Bits() + 1, Le: aggregate.Addr().BitLen()}
	if !slices.ContainsFunc(p.services, inside.Matches) {
		return []PrefixRule{inside}
	}
	var out []PrefixRule
	for _, own := range p.others {
		if inside.Matches(own) {
			out = append(out, exactly(own))
		}
	}
	return out
}

// servicesOf returns the service prefixes that match one of the rules, all without
// rules.
func (p *Plan) servicesOf(rules []PrefixRule) []PrefixRule {
	var out []PrefixRule
	for _, s := range p.services {
		if len(rules) == 0 || slices.ContainsFunc(rules, func(r PrefixRule) bool { return r.Matches(s) }) {
			out = append(out, exactly(s))
		}
	}
	return out
}

// HasService reports whether prefix is a service prefix.
func (p *Plan) HasService(prefix netip.Prefix) bool { return slices.Contains(p.services, prefix) }
