package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/policy"
)

// Origin is a prefix this node announces as its own.
type Origin struct {
	Prefix netip.Prefix
	// Communities are attached: "64512:100" or "64512:1:2".
	Communities []string
	// Draining announces the prefix with GRACEFUL_SHUTDOWN and LOCAL_PREF 0
	// (RFC 8326), so that peers move to other paths before it is withdrawn.
	Draining bool
	// Aggregate prefixes are told only to peers with them in Export.Aggregates,
	// and others' prefixes inside are taken.
	Aggregate bool
}

// Equal reports whether o and p announce the same.
func (o Origin) Equal(p Origin) bool {
	return o.Prefix == p.Prefix && o.Draining == p.Draining && o.Aggregate == p.Aggregate && slices.Equal(o.Communities, p.Communities)
}

// validate checks o for a node of configuration c.
func (o Origin) validate(c *Config) error {
	if err := validPrefix("Origin.Prefix", o.Prefix); err != nil {
		return err
	}
	if o.Prefix.Bits() == 0 {
		return fmt.Errorf("%w: Origin.Prefix: the default route %s cannot be originated", ErrConfig, o.Prefix)
	}
	if !o.nextHop(c).IsValid() {
		return fmt.Errorf("%w: Origin.Prefix: %s has no next hop: set NodeAddress or NodeAddress6", ErrConfig, o.Prefix)
	}
	if _, _, err := policy.ParseCommunities(o.Communities); err != nil {
		return fmt.Errorf("%w: Origin.Communities: %w", ErrConfig, err)
	}
	return nil
}

func (o Origin) nextHop(c *Config) netip.Addr {
	if o.Prefix.Addr().Is4() {
		return c.NodeAddress
	}
	return c.NodeAddress6
}

// SetOrigins makes the announced own prefixes exactly those given. It may be
// called before Start, so that the first announcement to every peer is
// complete. Nothing is changed when it returns an [ErrConfig].
func (s *Speaker) SetOrigins(_ context.Context, origins []Origin) error {
	want := make(map[netip.Prefix]Origin, len(origins))
	for _, o := range origins {
		if err := o.validate(&s.cfg); err != nil {
			return err
		}
		if _, twice := want[o.Prefix]; twice {
			return fmt.Errorf("%w: Origin.Prefix: %s is listed twice", ErrConfig, o.Prefix)
		}
		want[o.Prefix] = o
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.origins = want
		return nil
	}
	return s.applyOriginsLocked(want)
}

// applyOriginsLocked moves the engine from s.origins to want. After an error
// s.origins is what it was, so that the next attempt does all of it again.
func (s *Speaker) applyOriginsLocked(want map[netip.Prefix]Origin) error {
	old := s.origins
	add, fresh, err := s.announcements(old, want)
	if err != nil {
		return err
	}
	gone, err := s.withdrawals(old, want)
	if err != nil {
		return err
	}
	s.origins = want // the policy below is made from it
	if err := s.moveOriginsLocked(add, gone, fresh); err != nil {
		s.origins = old
		return err
	}
	return nil
}

// announcements returns the paths of want that old lacks or has otherwise, and
// reports whether a prefix is new.
func (s *Speaker) announcements(old, want map[netip.Prefix]Origin) (add []*api.Path, fresh bool, err error) {
	for prefix, o := range want {
		was, had := old[prefix]
		fresh = fresh || !had
		if had && was.Equal(o) {
			continue
		}
		p, err := s.originPath(o)
		if err != nil {
			return nil, false, err
		}
		add = append(add, p)
	}
	return add, fresh, nil
}

// withdrawals returns the paths of old that want does not have.
func (s *Speaker) withdrawals(old, want map[netip.Prefix]Origin) ([]*api.Path, error) {
	var gone []*api.Path
	for prefix, o := range old {
		if _, keep := want[prefix]; keep {
			continue
		}
		p, err := s.originPath(o)
		if err != nil {
			return nil, err
		}
		p.IsWithdraw = true
		gone = append(gone, p)
	}
	return gone, nil
}

// moveOriginsLocked announces and withdraws. The policy that refuses our own
// prefixes from others is in place before they are announced, and lifted only
// after they are withdrawn.
func (s *Speaker) moveOriginsLocked(add, gone []*api.Path, fresh bool) error {
	if fresh {
		if err := s.installPolicyLocked(); err != nil {
			return err
		}
	}
	ctx := context.Background()
	for _, p := range add {
		if _, err := s.engine.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: p}); err != nil {
			return fmt.Errorf("announce own prefixes: %w", err)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	for _, p := range gone { // never without a path: that would withdraw them all
		if err := s.engine.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: p}); err != nil {
			return fmt.Errorf("withdraw own prefixes: %w", err)
		}
	}
	if err := s.installPolicyLocked(); err != nil {
		return err
	}
	// Somebody else may have announced a given-up prefix while it was ours.
	return s.softResetLocked("", softIn)
}

// originPath is the engine's form of o.
func (s *Speaker) originPath(o Origin) (*api.Path, error) {
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP)}
	nlri := nlriOf(o.Prefix)
	hop := o.nextHop(&s.cfg).String()
	if o.Prefix.Addr().Is4() {
		attrs = append(attrs, bgp.NewPathAttributeNextHop(hop))
	} else {
		attrs = append(attrs, bgp.NewPathAttributeMpReachNLRI(hop, []bgp.AddrPrefixInterface{nlri}))
	}
	communities := slices.Clone(o.Communities)
	if o.Draining {
		communities = append(communities, policy.GracefulShutdown)
		attrs = append(attrs, bgp.NewPathAttributeLocalPref(0))
	}
	attached, err := communityAttributes(communities)
	if err != nil {
		return nil, fmt.Errorf("encode prefix %s: %w", o.Prefix, err)
	}
	attrs = append(attrs, attached...)
	p, err := apiutil.NewPath(nlri, false, attrs, time.Now())
	if err != nil {
		return nil, fmt.Errorf("encode prefix %s: %w", o.Prefix, err)
	}
	return p, nil
}

// communityAttributes are the attributes of communities, none for none.
func communityAttributes(texts []string) ([]bgp.PathAttributeInterface, error) {
	std, large, err := policy.ParseCommunities(texts)
	if err != nil {
		return nil, err
	}
	var attrs []bgp.PathAttributeInterface
	if len(std) > 0 {
		list := make([]uint32, len(std))
		for i, c := range std {
			list[i] = c.Standard()
		}
		attrs = append(attrs, bgp.NewPathAttributeCommunities(list))
	}
	if len(large) > 0 {
		list := make([]*bgp.LargeCommunity, len(large))
		for i, c := range large {
			list[i] = &bgp.LargeCommunity{ASN: c.Parts[0], LocalData1: c.Parts[1], LocalData2: c.Parts[2]}
		}
		attrs = append(attrs, bgp.NewPathAttributeLargeCommunities(list))
	}
	return attrs, nil
}

// nlriOf is the engine's form of a prefix.
func nlriOf(p netip.Prefix) bgp.AddrPrefixInterface {
	if p.Addr().Is4() {
		return bgp.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String())
	}
	return bgp.NewIPv6AddrPrefix(uint8(p.Bits()), p.Addr().String())
}
