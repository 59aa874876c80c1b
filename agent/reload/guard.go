package reload

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/agent/config"
	"onlink/agent/forecast"
	"onlink/bgp"
)

// heldName is the name of a held change of the file.
const heldName = "config"

// removal is what a change of the configuration would remove, where that is so much
// that the source of the change may have failed.
type removal struct {
	reason string // for a person; "": it is not so much
	// all is all of it in one order. It names nothing of this node, so that nodes which
	// lose the same have one digest, and nothing of what the change adds: one that adds
	// more meanwhile is the same removal.
	all []string
}

// losses returns what a change would remove, as [removals] does, and the announcements
// that it would withdraw from sessions that stay. An agent that begins anew withdraws
// nothing meanwhile, and makes no forecast.
func (r *Reloader) losses(ctx context.Context, next *config.Effective, anything, restart bool) removal {
	lost := removals(r.Current(), next, r.inUse, anything)
	if restart {
		return lost
	}
	told, err := r.foresee(ctx, next, 1)
	if err != nil {
		return lost // such as of a key file that is not written yet
	}
	if text := withdrawn(told); text != "" {
		lost.reason = strings.TrimPrefix(lost.reason+", and "+text, ", and ")
		lost.all = append(lost.all, "announcements")
	}
	return lost
}

// withdrawn says how many announcements go, when they are more than a third, and of two
// prefixes at least.
func withdrawn(told *forecast.Result) string {
	var peers []string
	most := 0
	for i := range told.Sessions {
		if s := &told.Sessions[i]; s.Lost > 0 && s.Fate != bgp.FateRemoved {
			peers = append(peers, fmt.Sprintf("%d to %s", s.Lost, s.Name))
			most = max(most, s.Lost)
		}
	}
	lost, of := told.Withdrawn()
	if most < 2 || 3*lost <= of {
		return ""
	}
	return fmt.Sprintf("%d of %d announcements (%s)", lost, of, some(peers))
}

// removals returns what a change of the configuration would remove. inUse reports
// whether addresses of a pool are assigned on this node. anything: the least removal is
// too much.
func removals(last, next *config.Effective, inUse func(pool netip.Prefix) bool, anything bool) removal {
	var reasons []string
	var all []string
	add := func(text string) {
		if text != "" {
			reasons = append(reasons, text)
		}
	}
	gone := func(kind string, was, is []string) {
		for _, one := range was {
			if !slices.Contains(is, one) {
				all = append(all, kind+" "+one)
			}
		}
	}
	peers, left := sessions(last, anyPeer), sessions(next, anyPeer)
	ranges, kept := clients(last), clients(next)
	nodes := sessions(last, ofOurAS)
	switch {
	case len(peers)+len(ranges) > 0 && len(left)+len(kept) == 0:
		add(fmt.Sprintf("every session (%s)", some(append(slices.Clone(peers), texts(ranges)...))))
		all = append(all, "every session")
		gone("peer", sessions(last, ofOtherAS), left)
	case len(nodes) > 0 && len(sessions(next, ofOurAS)) == 0:
		add(fmt.Sprintf("all reflectors and other nodes of our AS (%s)", some(nodes)))
		all = append(all, "all of our AS")
		gone("peer", sessions(last, ofOtherAS), left)
	default:
		add(most("peers", peers, 2, func(p string) bool { return slices.Contains(left, p) }))
		gone("peer", peers, left)
	}
	covered := func(r string) bool {
		p := netip.MustParsePrefix(r)
		return slices.ContainsFunc(kept, func(k netip.Prefix) bool { return k.Bits() <= p.Bits() && k.Contains(p.Addr()) })
	}
	if len(kept) > 0 || len(left) > 0 {
		add(most("ranges of clients", texts(ranges), 2, covered))
	}
	gone("clients", texts(ranges), slices.DeleteFunc(texts(ranges), func(r string) bool { return !covered(r) }))
	add(removedPools(last.Pools, next.Pools, inUse))
	gone("pool", poolRanges(last.Pools), poolRanges(next.Pools))
	slices.Sort(all)
	if len(reasons) == 0 && anything && len(all) > 0 {
		add(some(all))
	}
	return removal{reason: strings.Join(reasons, ", and "), all: all}
}

// most says what of all is not kept, when it is at least a number, and more than a
// third.
func most(what string, all []string, least int, kept func(string) bool) string {
	gone := slices.DeleteFunc(slices.Clone(all), kept)
	if len(gone) < least || 3*len(gone) <= len(all) {
		return ""
	}
	return fmt.Sprintf("%d of %d %s (%s)", len(gone), len(all), what, some(gone))
}

// removedPools is most for pools: one is enough when it has addresses in use. A
// pool is its range, its name may change.
func removedPools(last, next []config.Pool, inUse func(pool netip.Prefix) bool) string {
	least := 2
	for _, p := range last {
		if !hasRange(next, p.CIDR) && inUse(p.CIDR) {
			least = 1
		}
	}
	return most("pools", poolRanges(last), least, func(p string) bool { return hasRange(next, netip.MustParsePrefix(p)) })
}

func poolRanges(pools []config.Pool) (list []string) {
	for _, p := range pools {
		list = append(list, p.CIDR.String())
	}
	return list
}

func hasRange(pools []config.Pool, p netip.Prefix) bool {
	return slices.ContainsFunc(pools, func(o config.Pool) bool { return o.CIDR == p })
}

func anyPeer(*config.Config, *config.Peer) bool { return true }

// ofOurAS reports whether a session is with a reflector or another node of a mesh:
// those that announce the blocks of all other nodes.
func ofOurAS(c *config.Config, p *config.Peer) bool { return !p.External(c.BGP.ASN) && !p.Client }

// ofOtherAS reports whether a session is with a router of another AS.
func ofOtherAS(c *config.Config, p *config.Peer) bool { return p.External(c.BGP.ASN) }

// sessions returns the peers that match by their address, or the interface that
// stands for it.
func sessions(c *config.Effective, match func(*config.Config, *config.Peer) bool) []string {
	var out []string
	for i := range c.BGP.Peers {
		p := &c.BGP.Peers[i]
		switch {
		case !match(&c.Config, p):
		case p.Unnumbered:
			out = append(out, p.Interface)
		default:
			out = append(out, p.Address.String())
		}
	}
	return out
}

// clients returns the ranges of this reflector's clients.
func clients(c *config.Effective) []netip.Prefix {
	if c.BGP.Reflector == nil {
		return nil
	}
	return c.BGP.Reflector.Clients
}

func texts(prefixes []netip.Prefix) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.String()
	}
	return out
}

// shown bounds the names in a reason.
const shown = 5

// some names the first ones.
func some(list []string) string {
	if more := len(list) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:shown], ", "), more)
	}
	return strings.Join(list, ", ")
}
