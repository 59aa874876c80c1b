package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Ends are the addresses of a session.
type Ends struct {
	Peer  netip.Addr // the neighbour
	Local netip.Addr // our end; the zero Addr while there is no connection
}

// view are the properties of the session that a statement uses.
type view struct {
	Ends
	before netip.Addr // the next hop before the export began
}

// Import returns the verdict on r when the peer announces it, as the engine
// decides: the loop check, then the statements. A [Guard] may refuse it after
// that.
func (p *Plan) Import(s *Peer, at Ends, r Route) Verdict {
	v := Verdict{Before: r}
	if n := countAS(r.ASPath, p.asn); n > int(s.AllowOwnAS) {
		return v.Decide(fmt.Sprintf("the AS_PATH holds our AS %d: a loop", p.asn), Reject, r)
	}
	r.LargeCommunities = unique(r.LargeCommunities)
	return v.run(p.Imports, &view{Ends: at}, r)
}

// Export returns the verdict on r for an announcement to the peer, as the engine
// decides: with the engine's own changes of a route before the policy and after.
func (p *Plan) Export(s *Peer, at Ends, r Route) Verdict {
	v := Verdict{Before: r}
	if countAS(r.ASPath, s.ASN) > 0 {
		return v.Decide(fmt.Sprintf("the AS_PATH holds the peer's AS %d: it would detect a loop", s.ASN), Reject, r)
	}
	seen := view{Ends: at, before: r.NextHop}
	if s.External {
		if r.Source != Own {
			r.NextHop, r.MED = at.Local, nil
		}
		r.ASPath = prepend(cmp.Or(s.LocalAS, p.asn), r.ASPath)
	} else if r.LocalPref == nil {
		hundred := uint32(100)
		r.LocalPref = &hundred
	}
	v = v.run(p.Exports, &seen, r)
	if s.External {
		v.After.LocalPref = nil // not sent to another AS (RFC 4271 section 5.1.5)
	}
	return v
}

// run evaluates the statements in order.
func (v Verdict) run(list []Statement, at *view, r Route) Verdict {
	for i := range list {
		st := &list[i]
		if !st.Cond.holds(&r, at.Peer) {
			continue
		}
		st.Change.apply(&r, at)
		if st.Action != Next {
			v = v.Decide(st.Rule, st.Action, r)
			if text := st.Change.text(); text != "" {
				v.Steps[len(v.Steps)-1].Effect += ", " + text
			}
			return v
		}
		v.Steps = append(v.Steps, Step{st.Rule, st.Change.text()})
	}
	return v.Decide("no rule is for this peer", Reject, r)
}

// Decide ends v: rule accepts or rejects the route, which by then is r.
func (v Verdict) Decide(rule string, a Action, r Route) Verdict {
	v.Accepted, v.Rule, v.After = a == Accept, rule, r
	v.Steps = append(v.Steps, Step{rule, a.String()})
	return v
}

// text describes a change in words, for an operator.
func (c *Change) text() string {
	var parts []string
	say := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if c.LocalPref != 0 {
		say("LOCAL_PREF %d", c.LocalPref)
	}
	if c.MED != nil {
		say("MED %d", *c.MED)
	}
	if c.Prepend > 0 {
		say("prepend %d x %d", c.PrependAS, c.Prepend)
	}
	for _, l := range []struct {
		verb string
		list []string
	}{
		{"communities =", c.Communities.Replace},
		{"communities +", c.Communities.Add},
		{"communities -", c.Communities.Remove},
		{"large communities =", c.Large.Replace},
		{"large communities +", c.Large.Add},
		{"large communities -", c.Large.Remove},
	} {
		if len(l.list) > 0 {
			say("%s %s", l.verb, strings.Join(l.list, " "))
		}
	}
	if c.NextHop.Kind != NextHopKeep {
		say("next hop %s", c.NextHop)
	}
	if c.Origin != "" {
		say("origin %s", c.Origin)
	}
	return strings.Join(parts, ", ")
}

// unique returns the list without duplicates, which a receiver removes from large
// communities (RFC 8092 section 6).
func unique(list []string) []string {
	var out []string
	for _, c := range list {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// prepend puts an AS before a path.
func prepend(asn uint32, path string) string {
	return strings.TrimSuffix(strconv.FormatUint(uint64(asn), 10)+" "+path, " ")
}

// countAS returns how often an AS is in a path.
func countAS(path string, asn uint32) int {
	want, n := strconv.FormatUint(uint64(asn), 10), 0
	for _, f := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
		if f == want {
			n++
		}
	}
	return n
}
