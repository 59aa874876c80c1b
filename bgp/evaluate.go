package bgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
)

// Route is a route as a policy sees it.
type Route struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
	ASPath  string // "65001 65002 {65003,65004}"
	// LocalPref and MED are nil where the route carries none.
	LocalPref, MED                *uint32
	Communities, LargeCommunities []string // in the order they are sent
	Origin                        string   // igp, egp or incomplete
	Source                        Source   // of an exported route
}

// Verdict is what a policy does to a route.
type Verdict struct {
	Accepted bool
	Rule     string // which decided
	Steps    []Step // the rules that had a part in it, the deciding one last
	Before   Route  // the route with what was not said filled in
	After    Route  // the route as it is taken, or as the peer is sent it
}

// Step is one rule that matched.
type Step struct {
	Rule   string
	Effect string // in words
}

// sessionView is what a statement knows of the session.
type sessionView struct {
	peer   netip.Addr // the neighbour
	local  netip.Addr // our end; the zero Addr while it is not known
	before netip.Addr // the next hop before the export began
}

// TestImport says what would become of r if the peer, a name or an address,
// announced it now. What r leaves zero is what a plain announcement has. It
// wraps [ErrUnknownPeer], [ErrNotStarted] or, for a route that cannot be,
// [ErrConfig].
func (s *Speaker) TestImport(ctx context.Context, peer string, r Route) (Verdict, error) {
	t, err := s.testOf(ctx, peer, &r)
	if err != nil {
		return Verdict{}, err
	}
	r.Source = Reflected
	if t.session.Role == EBGP {
		r.Source = External
		if r.ASPath == "" {
			r.ASPath = strconv.FormatUint(uint64(t.session.ASN), 10)
		}
	}
	if !r.NextHop.IsValid() && familyOfAddr(r.Prefix.Addr()) == familyOfAddr(t.view.peer) {
		r.NextHop = t.view.peer
	}
	return t.importOf(r), nil
}

// importOf says what becomes of a peer's route.
func (t *policyTest) importOf(r Route) Verdict {
	v := t.plan.evaluate(importing, &t.session, t.view, r)
	if !v.Accepted || t.guard == nil {
		return v
	}
	return t.guard.evaluate(v, t.view.peer)
}

// TestExport says what the peer, a name or an address, would be told of r
// now. What r leaves zero is taken from the route to its prefix in the table,
// if there is one. Errors are those of TestImport.
func (s *Speaker) TestExport(ctx context.Context, peer string, r Route) (Verdict, error) {
	t, err := s.testOf(ctx, peer, &r)
	if err != nil {
		return Verdict{}, err
	}
	if known := s.Paths(ctx, r.Prefix); len(known) > 0 {
		r.fill(&known[0])
	}
	if r.Source == AnySource {
		r.Source = Reflected
	}
	if r.Source == Own && !r.NextHop.IsValid() {
		r.NextHop = Origin{Prefix: r.Prefix}.nextHop(&s.cfg)
	}
	return t.plan.evaluate(exporting, &t.session, t.view, r), nil
}

// fill takes over from a path what the route leaves open. A route said to be
// of another source than the path is not that path.
func (r *Route) fill(p *PathInfo) {
	source := Reflected
	switch {
	case p.Own:
		source = Own
	case p.EBGP:
		source = External
	}
	if r.Source != AnySource && r.Source != source {
		return
	}
	r.Source, r.ASPath = source, cmp.Or(r.ASPath, p.ASPath)
	if !r.NextHop.IsValid() {
		r.NextHop = p.NextHop
	}
	if r.LocalPref == nil && !p.Own {
		r.LocalPref = &p.LocalPref
	}
	if r.MED == nil && p.MED != 0 {
		r.MED = &p.MED
	}
	if len(r.Communities)+len(r.LargeCommunities) == 0 {
		r.Communities, r.LargeCommunities = partCommunities(p.Communities)
	}
}

// partCommunities splits standard from large communities, all valid.
func partCommunities(list []string) (std, lrg []string) {
	for _, c := range list {
		if colons(c) == 1 {
			std = append(std, c)
		} else {
			lrg = append(lrg, c)
		}
	}
	return std, lrg
}

// policyTest is what a test of the policy needs to know.
type policyTest struct {
	name    string // of the peer
	plan    *policyPlan
	session Session
	view    sessionView
	guard   *guard // nil: the engine asks none
}

// testOf finds the peer and checks the route.
func (s *Speaker) testOf(ctx context.Context, peer string, r *Route) (policyTest, error) {
	r.Origin = cmp.Or(r.Origin, origins[0])
	if err := r.validate(); err != nil {
		return policyTest{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return policyTest{}, ErrNotStarted
	}
	session, name, addr, err := s.sessionLocked(peer)
	if err != nil {
		return policyTest{}, err
	}
	t := policyTest{name: name, plan: s.plan, session: session, view: sessionView{peer: addr, local: session.LocalAddress}}
	if _, able := any(s.engine).(importer); able {
		t.guard = s.guard.Load()
	}
	if !t.view.local.IsValid() {
		t.view.local = s.localEndLocked(ctx, addr)
	}
	return t, nil
}

// sessionLocked finds a configured peer by its name or address, or dynamic
// ones by their name or the address of one.
func (s *Speaker) sessionLocked(peer string) (Session, string, netip.Addr, error) {
	addr, notAddr := netip.ParseAddr(peer)
	for a, p := range s.peers {
		if p.Name == peer || notAddr == nil && a.WithZone("") == addr.WithZone("") {
			return p.Session, p.Name, a.WithZone(""), nil
		}
	}
	if d, ok := s.dynamics[peer]; ok {
		return d.Session, d.Name, d.Prefix.Addr(), nil
	}
	var best *Dynamic
	for _, d := range s.dynamics {
		if notAddr == nil && d.Prefix.Contains(addr) && (best == nil || d.Prefix.Bits() > best.Prefix.Bits()) {
			best = &d
		}
	}
	if best == nil {
		return Session{}, "", addr, fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	return best.Session, best.Name, addr, nil
}

// localEndLocked returns our address of a session that was up.
func (s *Speaker) localEndLocked(ctx context.Context, peer netip.Addr) netip.Addr {
	var local netip.Addr
	err := s.engine.ListPeer(ctx, &api.ListPeerRequest{Address: peer.String()}, func(p *api.Peer) {
		if a, err := netip.ParseAddr(p.GetTransport().GetLocalAddress()); err == nil && !a.IsUnspecified() {
			local = a.Unmap()
		}
	})
	if err != nil {
		s.log.Warn("look-up of a session's own address did not succeed", "peer", peer, "error", err)
	}
	return local
}

// asPathForm matches the text of an AS_PATH.
var asPathForm = regexp.MustCompile(`^(([0-9]+|\{[0-9]+(,[0-9]+)*\})( |$))*$`)

func (r *Route) validate() error {
	if err := validPrefix("Route.Prefix", r.Prefix); err != nil {
		return err
	}
	if !asPathForm.MatchString(r.ASPath) || strings.HasSuffix(r.ASPath, " ") {
		return fmt.Errorf("%w: Route.ASPath: %q is not an AS_PATH: write 65001 65002 {65003,65004}", ErrConfig, r.ASPath)
	}
	if !slices.Contains(origins, r.Origin) {
		return fmt.Errorf("%w: Route.Origin: %q is unknown: use igp, egp or incomplete", ErrConfig, r.Origin)
	}
	for _, c := range r.Communities {
		if err := checkCommunity("Route.Communities", c, 2); err != nil {
			return err
		}
	}
	for _, c := range r.LargeCommunities {
		if err := checkCommunity("Route.LargeCommunities", c, 3); err != nil {
			return err
		}
	}
	return nil
}

// evaluate runs the plan as the engine does, with what the engine itself does
// to a route before it asks the policy and after.
func (p *policyPlan) evaluate(dir direction, s *Session, view sessionView, r Route) Verdict {
	v := Verdict{Before: r}
	if dir == importing {
		if n := countAS(r.ASPath, p.asn); n > int(s.AllowOwnAS) {
			return v.decide(fmt.Sprintf("the AS_PATH holds our AS %d: a loop", p.asn), Reject, r)
		}
		r.LargeCommunities = unique(r.LargeCommunities)
		return v.run(p.imports, &view, r)
	}
	if countAS(r.ASPath, s.ASN) > 0 {
		return v.decide(fmt.Sprintf("the AS_PATH holds the peer's AS %d: it would find a loop", s.ASN), Reject, r)
	}
	view.before = r.NextHop
	if s.Role == EBGP {
		if r.Source != Own {
			r.NextHop, r.MED = view.local, nil
		}
		r.ASPath = prepend(cmp.Or(s.LocalAS, p.asn), r.ASPath)
	} else if r.LocalPref == nil {
		hundred := uint32(100)
		r.LocalPref = &hundred
	}
	v = v.run(p.exports, &view, r)
	if s.Role == EBGP {
		v.After.LocalPref = nil // not sent to another AS (RFC 4271 section 5.1.5)
	}
	return v
}

// run asks the statements in order.
func (v Verdict) run(list []statement, view *sessionView, r Route) Verdict {
	for i := range list {
		st := &list[i]
		if !st.cond.holds(&r, view.peer) {
			continue
		}
		st.change.apply(&r, view)
		if st.action != Next {
			v = v.decide(st.rule, st.action, r)
			if text := st.change.text(); text != "" {
				v.Steps[len(v.Steps)-1].Effect += ", " + text
			}
			return v
		}
		v.Steps = append(v.Steps, Step{st.rule, st.change.text()})
	}
	return v.decide("no rule is for this peer", Reject, r)
}

func (v Verdict) decide(rule string, a Action, r Route) Verdict {
	v.Accepted, v.Rule, v.After = a == Accept, rule, r
	v.Steps = append(v.Steps, Step{rule, a.String()})
	return v
}

// text says a change in words.
func (c *change) text() string {
	var parts []string
	say := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if c.localPref != 0 {
		say("LOCAL_PREF %d", c.localPref)
	}
	if c.med != nil {
		say("MED %d", *c.med)
	}
	if c.prepend > 0 {
		say("prepend %d x %d", c.prependAS, c.prepend)
	}
	for _, l := range []struct {
		verb string
		list []string
	}{
		{"communities =", c.std.Replace},
		{"communities +", c.std.Add},
		{"communities -", c.std.Remove},
		{"large communities =", c.lrg.Replace},
		{"large communities +", c.lrg.Add},
		{"large communities -", c.lrg.Remove},
	} {
		if len(l.list) > 0 {
			say("%s %s", l.verb, strings.Join(l.list, " "))
		}
	}
	if c.nextHop.Kind != NextHopKeep {
		say("next hop %s", c.nextHop)
	}
	if c.origin != "" {
		say("origin %s", c.origin)
	}
	return strings.Join(parts, ", ")
}

// unique returns the list without repetitions, which a receiver removes from
// large communities (RFC 8092 section 6).
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
