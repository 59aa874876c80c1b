package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"onlink/bgp/policy"
	"onlink/internal/strictyaml"
)

// This file reads filters, whose types and rules are in package policy.

func readFilter(v strictyaml.Value) policy.Filter {
	var f policy.Filter
	v.Mapping(strictyaml.Fields{
		"name": strictyaml.Word(&f.Name),
		"rules": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { f.Rules = append(f.Rules, readFilterRule(v)) })
		},
	})
	return f
}

func readFilterRule(v strictyaml.Value) policy.Rule {
	var r policy.Rule
	v.Mapping(strictyaml.Fields{
		"match":  func(v strictyaml.Value) { readFilterMatch(v, &r.Match) },
		"set":    func(v strictyaml.Value) { readFilterSet(v, &r.Set) },
		"action": stringer(&r.Action, policy.Accept, policy.Reject, policy.Next),
	})
	return r
}

func readFilterMatch(v strictyaml.Value, m *policy.Match) {
	v.Mapping(strictyaml.Fields{
		"prefixes":         rules(&m.Prefixes),
		"communities":      communityTexts(&m.Communities, 2, true),
		"largeCommunities": communityTexts(&m.LargeCommunities, 3, true),
		"asPath":           asPathExpressions(&m.ASPath),
		"source":           stringer(&m.Source, policy.Own, policy.Service, policy.Reflected),
	})
}

func readFilterSet(v strictyaml.Value, s *policy.Set) {
	v.Mapping(strictyaml.Fields{
		"localPref": strictyaml.Number(&s.LocalPref, 1, math.MaxUint32),
		"med": func(v strictyaml.Value) {
			if !v.IsNull() {
				s.MED = new(uint32)
				strictyaml.Number(s.MED, 0, math.MaxUint32)(v)
			}
		},
		"prepend":          strictyaml.Number(&s.Prepend, 1, 10),
		"communities":      func(v strictyaml.Value) { readCommunityChange(v, &s.Communities, 2) },
		"largeCommunities": func(v strictyaml.Value) { readCommunityChange(v, &s.LargeCommunities, 3) },
		"nextHop":          nextHop(&s.NextHop),
		"origin":           strictyaml.OneOf(&s.Origin, policy.Origins()...),
	})
}

func readCommunityChange(v strictyaml.Value, c *policy.CommunityChange, parts int) {
	v.Mapping(strictyaml.Fields{
		"add":     communityTexts(&c.Add, parts, false),
		"remove":  communityTexts(&c.Remove, parts, true),
		"replace": communityTexts(&c.Replace, parts, false),
	})
}

// stringer reads one of the given values by its name.
func stringer[T fmt.Stringer](dst *T, values ...T) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		names := make([]string, len(values))
		for i, one := range values {
			names[i] = one.String()
		}
		var name string
		strictyaml.OneOf(&name, names...)(v)
		if i := slices.Index(names, name); i >= 0 {
			*dst = values[i]
		}
	}
}

// rules reads a list of prefix rules.
func rules(dst *[]policy.PrefixRule) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(v strictyaml.Value) {
			if r, ok := readRule(v); ok {
				*dst = append(*dst, r)
			}
		})
	}
}

// readRule reads a CIDR or {prefix, ge, le}.
func readRule(v strictyaml.Value) (policy.PrefixRule, bool) {
	var r policy.PrefixRule
	if !v.IsMapping() {
		strictyaml.Prefix(&r.Prefix)(v)
		if !r.Prefix.IsValid() {
			return r, false
		}
		r.Ge, r.Le = r.Prefix.Bits(), r.Prefix.Addr().BitLen()
		return r, true
	}
	const unset = -1
	r.Ge, r.Le = unset, unset
	v.Mapping(strictyaml.Fields{
		"prefix": strictyaml.Prefix(&r.Prefix),
		"ge":     strictyaml.Number(&r.Ge, 0, 128),
		"le":     strictyaml.Number(&r.Le, 0, 128),
	})
	if !r.Prefix.IsValid() {
		if !v.Failed() {
			v.Fail("has no prefix; write {prefix: 10.0.0.0/8, ge: 16, le: 24}")
		}
		return r, false
	}
	if r.Ge == unset {
		r.Ge = r.Prefix.Bits()
	}
	if r.Le == unset {
		r.Le = r.Prefix.Addr().BitLen()
	}
	if text := policy.LengthsFault(r.Prefix, r.Ge, r.Le); text != "" {
		v.Fail("%s", text)
		return r, false
	}
	return r, true
}

// communityTexts reads a list of communities with 2 (RFC 1997) or 3 (RFC
// 8092) parts, or 0 for both, or, where allowed, expressions over their text.
func communityTexts(dst *[]string, parts int, expressions bool) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(v strictyaml.Value) {
			if s, ok := v.Text("a community"); ok {
				text, err := policy.CanonicalCommunity(s, parts, expressions)
				if err != nil {
					v.Fail("%s", err)
					return
				}
				*dst = append(*dst, text)
			}
		})
	}
}

// asPathExpressions reads a list of regular expressions in which _ stands for
// the beginning, the end or a separator.
func asPathExpressions(dst *[]string) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(v strictyaml.Value) {
			s, ok := v.Text("a regular expression")
			if !ok {
				return
			}
			if text := policy.ASPathFault(s); text != "" {
				v.Fail("%s", text)
				return
			}
			*dst = append(*dst, s)
		})
	}
}

// nextHop reads a word or an address.
func nextHop(dst *policy.NextHop) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		s, ok := v.Text("self, unchanged, peer-address or an address")
		if !ok {
			return
		}
		for _, kind := range []policy.NextHopKind{policy.NextHopSelf, policy.NextHopUnchanged, policy.NextHopPeer} {
			if hop := (policy.NextHop{Kind: kind}); hop.String() == s {
				*dst = hop
				return
			}
		}
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
			v.Fail("%q is not a next hop; use self, unchanged, peer-address or an address", s)
			return
		}
		*dst = policy.NextHop{Kind: policy.NextHopAddress, Addr: a.Unmap()}
	}
}

// filterNames reads the names of filters; fillFilters replaces them by the
// filters.
func filterNames(dst *[]policy.Filter) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(v strictyaml.Value) {
			var name string
			if strictyaml.Word(&name)(v); name != "" {
				*dst = append(*dst, policy.Filter{Name: name})
			}
		})
	}
}

// fillFilters puts the rules of filters in the place of their names, and reports
// the faults of filters, names without a filter, and rules that the peer cannot
// have.
func (p *checker) fillFilters(c *BGP) {
	known := map[string]policy.Filter{}
	for i, f := range c.Filters {
		path := fmt.Sprintf("bgp.filters[%d]", i)
		p.report(f.Validate(path))
		if _, dup := known[f.Name]; dup && f.Name != "" && !p.Failed(path) {
			p.Fail(path+".name", "%q is also the name of another filter; use another", f.Name)
		}
		known[f.Name] = f
	}
	for i := range c.Peers {
		peer := &c.Peers[i]
		p.useFilters(known, fmt.Sprintf("bgp.peers[%d]", i), &peer.Import, &peer.Export, peer.External(c.ASN))
	}
	if m := c.Mesh; m != nil {
		p.useFilters(known, "bgp.mesh", &m.Peer.Import, &m.Peer.Export, false)
	}
	if r := c.Reflector; r != nil {
		p.useFilters(known, "bgp.reflector", &r.Import, &r.Export, false)
	}
}

// useFilters fills in the filters of one session.
func (p *checker) useFilters(known map[string]policy.Filter, path string, in *policy.Import, out *policy.Export, external bool) {
	fill := func(path string, list []policy.Filter, u policy.Use) {
		for i := range list {
			at := fmt.Sprintf("%s.filters[%d]", path, i)
			f, ok := known[list[i].Name]
			if !ok {
				p.Fail(at, "%q is not one of bgp.filters; add it there or correct the name", list[i].Name)
				continue
			}
			list[i] = f
			for _, fault := range f.Misuse(at, u) {
				p.Fail(fault.Path, "%s", fault.Text)
			}
		}
	}
	fill(path+".import", in.Filters, policy.Use{External: external})
	fill(path+".export", out.Filters, policy.Use{Export: true, External: external})
}
