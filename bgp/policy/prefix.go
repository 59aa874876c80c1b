package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// PrefixRule matches prefixes inside Prefix by their length, as the ge and
// le of a prefix list do.
type PrefixRule struct {
	Prefix netip.Prefix
	// Ge and Le bound the length. Both zero: Prefix and everything inside
	// it, except that 0.0.0.0/0 and ::/0 then match the default route alone.
	Ge, Le int
}

// Matches reports whether the rule matches p.
func (r PrefixRule) Matches(p netip.Prefix) bool {
	lo, hi := r.lengths()
	return p.Addr().BitLen() == r.Prefix.Addr().BitLen() && p.Bits() >= r.Prefix.Bits() &&
		r.Prefix.Contains(p.Addr()) && lo <= p.Bits() && p.Bits() <= hi
}

// lengths returns the least and the greatest prefix length matched.
func (r PrefixRule) lengths() (lo, hi int) {
	lo, hi = r.Ge, r.Le
	if lo == 0 {
		lo = r.Prefix.Bits()
	}
	if hi == 0 {
		hi = r.Prefix.Addr().BitLen()
		if r.Prefix.Bits() == 0 && r.Ge == 0 {
			hi = 0
		}
	}
	return lo, hi
}

// Validate returns the faults of r; path is its key.
func (r PrefixRule) Validate(path string) []Fault {
	if text := PrefixFault(r.Prefix); text != "" {
		return []Fault{{path, text}}
	}
	lo, hi := r.lengths()
	if text := LengthsFault(r.Prefix, lo, hi); text != "" {
		return []Fault{{path, text}}
	}
	return nil
}

// LengthsFault returns why no prefix inside p has a length from lo to hi; "" when
// some have.
func LengthsFault(p netip.Prefix, lo, hi int) string {
	low, high := p.Bits(), p.Addr().BitLen()
	if low <= lo && lo <= hi && hi <= high {
		return ""
	}
	return fmt.Sprintf("lengths %d to %d match nothing inside %s; use %d <= ge <= le <= %d", lo, hi, p, low, high)
}

// String returns the rule in words, for logs.
func (r PrefixRule) String() string {
	lo, hi := r.lengths()
	return fmt.Sprintf("%s ge %d le %d", r.Prefix, lo, hi)
}

// byFamily splits rules into those of IPv4 and those of IPv6; an empty part is
// left out.
func byFamily(rules []PrefixRule) [][]PrefixRule {
	var v4, v6 []PrefixRule
	for _, r := range rules {
		if r.Prefix.Addr().Is4() {
			v4 = append(v4, r)
		} else {
			v6 = append(v6, r)
		}
	}
	return slices.DeleteFunc([][]PrefixRule{v4, v6}, func(l []PrefixRule) bool { return len(l) == 0 })
}

// Flatten returns rules of one family, with Ge and Le filled in, that match the
// same prefixes even when only those of the longest prefix around a route are
// compared: an engine's lookup finds no others. Every prefix also gets the lengths
// of the prefixes around it.
func Flatten(rules []PrefixRule) []PrefixRule {
	sorted := slices.Clone(rules)
	slices.SortStableFunc(sorted, func(a, b PrefixRule) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	var list []PrefixRule
	var around []PrefixRule // those that contain the current one, and those equal to it
	for i, r := range sorted {
		around = slices.DeleteFunc(around, func(o PrefixRule) bool { return !contains(o.Prefix, r.Prefix) })
		around = append(around, r)
		if i+1 < len(sorted) && sorted[i+1].Prefix == r.Prefix {
			continue // around has all rules of a prefix only at its last one
		}
		for _, o := range around {
			lo, hi := o.lengths()
			if lo = max(lo, r.Prefix.Bits()); lo <= hi {
				list = append(list, PrefixRule{r.Prefix, lo, hi})
			}
		}
	}
	return list
}

// contains reports whether p is q or has q inside.
func contains(p, q netip.Prefix) bool {
	return p.Bits() <= q.Bits() && p.Contains(q.Addr())
}
