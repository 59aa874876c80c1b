package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
)

// Operator is an operator's view into single sessions and tables of a speaker. It may
// be used from any goroutine.
type Operator struct{ s *Speaker }

// NewOperator returns the operator's view into s.
func NewOperator(s *Speaker) Operator { return Operator{s} }

// ErrNoSession is wrapped when a peer has no session, and so no routes.
var ErrNoSession = errors.New("the peer has no session")

type (
	// Capability is one capability of an OPEN (RFC 5492).
	Capability = gobgp.Capability
	// Messages counts messages by their type.
	Messages = gobgp.Messages
)

// PeerDetail is one session in detail.
type PeerDetail struct {
	PeerStatus

	Local    netip.Addr // our end; the zero Addr while there is no connection
	LocalID  netip.Addr // our router ID
	RouterID netip.Addr // the peer's; the zero Addr while the session is down
	// Hold, Keepalive and Retry are configured; the negotiated ones are zero while the
	// session is down.
	Hold, Keepalive, Retry              time.Duration
	NegotiatedHold, NegotiatedKeepalive time.Duration
	// Ours are the capabilities that this node offers, Theirs those of the peer's last
	// OPEN; Theirs may hold text of the peer.
	Ours, Theirs         []Capability
	SentMessages, Heard  Messages // counted while the peer is configured
	PerFamily            []FamilyRoutes
	Groups               []UpdateGroup // while the session is up
	Passive, Yield       bool          // this node never dials; only when the peer does not
	Password, Restarting bool          // TCP MD5 is configured; routes are kept for its restart
}

// FamilyRoutes counts the routes of one family of a session.
type FamilyRoutes struct {
	Family             Family
	Received, Accepted int
}

// UpdateGroup is a group of peers that receive the same announcements of one family.
type UpdateGroup struct {
	Family   Family
	Members  []netip.Addr // the peer among them
	Prefixes int          // announced to the group
	Behind   int          // changes that were not sent to the peer yet
	Withheld int          // prefixes that no message to the members can hold
}

// running returns the engine, or [ErrNotStarted].
func (o Operator) running() (*gobgp.Engine, error) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if !o.s.started {
		return nil, ErrNotStarted
	}
	return o.s.engine, nil
}

// Detail returns the session to a peer of [Speaker.Peers] in detail. A peer without a
// session has its status alone. It wraps [ErrUnknownPeer] and [ErrNotStarted].
func (o Operator) Detail(_ context.Context, peer netip.Addr) (PeerDetail, error) {
	engine, err := o.running()
	if err != nil {
		return PeerDetail{}, err
	}
	list := o.s.Peers()
	i := slices.IndexFunc(list, func(p PeerStatus) bool { return p.Address == peer })
	if i < 0 {
		return PeerDetail{}, fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	d := PeerDetail{PeerStatus: list[i], LocalID: o.s.cfg.RouterID}
	if list[i].Gone {
		return d, nil
	}
	e, ok, err := engine.Detail(peer)
	if err != nil || !ok {
		return d, err
	}
	d.Local, d.RouterID = e.Local, e.RouterID
	d.Hold, d.Keepalive, d.Retry, d.NegotiatedHold, d.NegotiatedKeepalive = e.Hold, e.Keepalive, e.Retry, e.NegotiatedHold, e.NegotiatedKeepalive
	d.Ours, d.Theirs, d.SentMessages, d.Heard = e.Ours, e.Theirs, e.Sent, e.Received
	for _, f := range e.Families {
		d.PerFamily = append(d.PerFamily, FamilyRoutes{Family(f.Family), f.Received, f.Accepted})
	}
	o.configured(&d)
	groups, err := engine.UpdateGroups(peer)
	for _, g := range groups {
		d.Groups = append(d.Groups, UpdateGroup{Family(g.Family), g.Members, g.Prefixes, g.Behind, g.Withheld})
	}
	return d, err
}

// configured adds what the configuration says of who dials.
func (o Operator) configured(d *PeerDetail) {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if p, ok := o.s.sessions.want.peers[d.Address]; ok {
		d.Passive, d.Yield, d.Password = p.Passive, p.Yield, p.Password != ""
		return
	}
	d.Passive = true
	if dyn, ok := o.s.sessions.want.dynamicOf(d.Address); ok {
		d.Password = dyn.Password != ""
	}
}

// RefreshIn asks a peer to announce its routes again (RFC 2918) and applies the import
// policy again to those that are here. It returns the families that were asked for,
// none where the peer lacks the capability. The session is not touched.
func (o Operator) RefreshIn(_ context.Context, peer netip.Addr) ([]Family, error) {
	engine, err := o.refreshable(peer)
	if err != nil {
		return nil, err
	}
	if err := engine.SoftReset(peer, gobgp.In); err != nil {
		return nil, fmt.Errorf("apply import policy to %s: %w", peer, err)
	}
	asked, err := engine.RequestRefresh(peer)
	if err != nil {
		return nil, fmt.Errorf("send ROUTE-REFRESH to %s: %w", peer, err)
	}
	families := make([]Family, 0, len(asked))
	for _, f := range asked {
		families = append(families, Family(f))
	}
	return families, nil
}

// RefreshOut applies the export policy again and announces all routes to a peer again.
// The session is not touched.
func (o Operator) RefreshOut(_ context.Context, peer netip.Addr) error {
	engine, err := o.refreshable(peer)
	if err != nil {
		return err
	}
	if err := engine.SoftReset(peer, gobgp.Out); err != nil {
		return fmt.Errorf("announce to %s again: %w", peer, err)
	}
	return nil
}

// refreshable returns the engine when the session to a peer is up.
func (o Operator) refreshable(peer netip.Addr) (*gobgp.Engine, error) {
	engine, err := o.running()
	if err != nil {
		return nil, err
	}
	if !o.s.IsUp(peer) {
		return nil, fmt.Errorf("%w with %s that is Established", ErrNoSession, peer)
	}
	return engine, nil
}

// Candidate is one path to a prefix, and its place in the selection of the best path.
type Candidate struct {
	PathInfo

	RouterID netip.Addr // of the speaker that announced it
	State    PathState
	Reason   string // why it is not the best path, or not accepted
}

// PathState is a path's place in the selection.
type PathState string

// The places, and a path that import refused: it is no candidate.
const (
	PathBest      PathState = "best"
	PathMultipath PathState = "multipath" // used beside the best one
	PathWorse     PathState = "not best"
	PathRejected  PathState = "rejected"
)

// Candidates returns all paths to exactly prefix: those of the Loc-RIB in the order of
// their selection, each with the step that prefers the best one (RFC 4271 section
// 9.1.2), then those that import refused. An unpatched engine lists none of the latter.
func (o Operator) Candidates(ctx context.Context, prefix netip.Prefix) ([]Candidate, error) {
	engine, err := o.running()
	if err != nil {
		return nil, err
	}
	paths, err := engine.Paths(prefix)
	if err != nil {
		return nil, fmt.Errorf("look up paths to %s: %w", prefix, err)
	}
	list := make([]Candidate, 0, len(paths))
	for i := range paths {
		list = append(list, Candidate{PathInfo: pathInfo(prefix.Masked(), &paths[i], o.s.cfg.ASN), RouterID: paths[i].RouterID})
	}
	rank(list, o.s.guard.current.Load())
	refused, err := o.refused(ctx, engine, prefix.Masked())
	return append(list, refused...), err
}

// rank fills in the places of the paths of one prefix, the best path first.
func rank(list []Candidate, g *policy.Guard) {
	held := func(c *Candidate) bool { return g != nil && !c.Own && g.Holds(c.Peer, c.Prefix, c.NextHop) }
	for i := range list {
		c, best := &list[i], &list[0]
		if i == 0 {
			c.State, c.Best = PathBest, true
			continue
		}
		x, y := best.selection(), c.selection()
		step, better := policy.Decide(&x, &y)
		rivals := held(best) && held(c) && c.NextHop != best.NextHop
		c.State, c.Reason = PathWorse, step.Reason(&x, &y)
		switch {
		case rivals:
			c.Reason = fmt.Sprintf("the block has one owner, and no owner is registered: the first announcer keeps it, with next hop %s", best.NextHop)
		case policy.Multipath(&x, &y):
			c.State, c.Reason = PathMultipath, "used beside the best path; "+c.Reason
		case !better && held(c):
			c.Reason = "the block's owner announces the best path itself, or announced it first"
		case !better:
			c.Reason = "the order of the other paths decided: MED is compared between paths of one neighbouring AS only (RFC 4271 section 9.1.2.2 c)"
		}
		c.Best = c.State == PathMultipath
	}
}

// selection returns the properties that the selection compares.
func (c *Candidate) selection() policy.Candidate {
	return policy.Candidate{
		Stale: slices.Contains(c.Communities, policy.StandardText(communityLLGRStale)), Own: c.Own, External: c.EBGP, LocalPref: c.LocalPref, ASPath: c.ASPath, Origin: c.Origin, MED: c.MED,
		NextHop: c.NextHop, RouterID: c.RouterID, Peer: c.Peer,
	}
}

// refused returns the announcements of prefix that import refused, by peer.
func (o Operator) refused(_ context.Context, engine *gobgp.Engine, prefix netip.Prefix) (list []Candidate, err error) {
	var routes []receivedRoute
	err = engine.EachReceivedOf(netip.Addr{}, []netip.Prefix{prefix}, func(p gobgp.ReceivedPath) {
		if p.Loop || p.Refused {
			routes = append(routes, receivedOf(&p))
		}
	})
	if errors.Is(err, gobgp.ErrNoTables) {
		return nil, nil
	}
	for i := range routes {
		r := &routes[i]
		c := Candidate{State: PathRejected, PathInfo: r.info(o.s.cfg.ASN)}
		t, err := o.contextOf(r.peer)
		if err != nil {
			continue // the peer left meanwhile
		}
		c.Reason = "rejected on import: " + t.verdict(r, &o.s.cfg).Rule
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Candidate) int { return a.Peer.Compare(b.Peer) })
	return list, err
}

// Prefixes returns the prefixes with a path, accepted or not, that cover within or are
// inside it, in order. An unpatched engine lists none.
func (o Operator) Prefixes(_ context.Context, within netip.Prefix) ([]netip.Prefix, error) {
	engine, err := o.running()
	if err != nil {
		return nil, err
	}
	list, err := engine.BestPrefixes(within.Overlaps)
	if errors.Is(err, gobgp.ErrNoTables) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list prefixes: %w", err)
	}
	err = engine.EachReceived(within.Overlaps, func(_ netip.Addr, prefix netip.Prefix, _ gobgp.Attributes) { list = append(list, prefix) })
	if err != nil {
		return nil, fmt.Errorf("list prefixes: %w", err)
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list), nil
}
