package nft

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Obstacle is a foreign chain that drops packets between pods: a drop in any
// base chain of a hook overrides an accept elsewhere (nft(8)), so that no rule of
// onlink's can help.
type Obstacle struct {
	Family string // ip, ip6 or inet, as nft(8) writes it
	Table  string
	Chain  string
	Pool   netip.Prefix
	Policy bool // the chain's policy drops, else a rule
	// Before is the chain where accepting rules belong: the chain itself, or
	// DOCKER-USER, which Docker keeps for that.
	Before string
}

// Fix returns the commands with which an operator lets the packets through.
func (o Obstacle) Fix() string {
	rule := func(direction string) string {
		switch o.Family {
		case "ip":
			return fmt.Sprintf("iptables -I %s %s %s -j ACCEPT", o.Before, map[string]string{"saddr": "-s", "daddr": "-d"}[direction], o.Pool)
		case "ip6":
			return fmt.Sprintf("ip6tables -I %s %s %s -j ACCEPT", o.Before, map[string]string{"saddr": "-s", "daddr": "-d"}[direction], o.Pool)
		}
		family := "ip"
		if o.Pool.Addr().Is6() {
			family = "ip6"
		}
		return fmt.Sprintf("nft insert rule %s %s %s %s %s %s accept", o.Family, o.Table, o.Before, family, direction, o.Pool)
	}
	return rule("saddr") + "; " + rule("daddr")
}

// String names the chain and the reason why it drops.
func (o Obstacle) String() string {
	how := "one of its rules drops"
	if o.Policy {
		how = "its policy is drop"
	}
	return fmt.Sprintf("chain %s of table %s %s: %s, and no earlier rule accepts packets of pods of %s", o.Chain, o.Family, o.Table, how, o.Pool)
}

// Obstacles returns the chains that keep pods of these pools from each other,
// in the network namespace of the calling thread. A rule that matches anything
// but addresses, families and pods' devices is passed over: it may match only
// some packets, and an obstacle drops all of them.
func Obstacles(pools []netip.Prefix) ([]Obstacle, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	return settled(0, func() ([]Obstacle, error) {
		var out []Obstacle
		for _, f := range []struct {
			family nftables.TableFamily
			name   string
		}{{nftables.TableFamilyIPv4, "ip"}, {nftables.TableFamilyIPv6, "ip6"}, {nftables.TableFamilyINet, "inet"}} {
			chains, err := conn.ListChainsOfTableFamily(f.family)
			if err != nil {
				return nil, fmt.Errorf("list chains: %w", err)
			}
			mine := slices.DeleteFunc(slices.Clone(pools), func(p netip.Prefix) bool {
				return f.name == "ip" && !p.Addr().Is4() || f.name == "ip6" && !p.Addr().Is6()
			})
			found, err := obstaclesAmong(conn, f.name, chains, mine)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
		return out, nil
	})
}

// obstaclesAmong searches the base chains of one family.
func obstaclesAmong(conn *nftables.Conn, family string, chains []*nftables.Chain, pools []netip.Prefix) ([]Obstacle, error) {
	var out []Obstacle
	for _, c := range chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward {
			continue
		}
		w := walk{conn: conn, chains: chains, rules: map[string][]*nftables.Rule{}}
		for _, pool := range pools {
			o, found, err := w.obstacle(c, pool)
			if err != nil {
				return nil, err
			}
			if o.Family = family; found {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// walk follows packets through the chains of one table.
type walk struct {
	conn   *nftables.Conn
	chains []*nftables.Chain
	rules  map[string][]*nftables.Rule // read so far, by chain
	steps  int
	// unsure: a rule that was passed over may take packets out of the chain.
	unsure  bool
	rewrite string // how the rule that ended the walk rewrites the source; "": not
}

// maxSteps bounds a walk: a chain that is jumped to from many rules counts for
// each.
const maxSteps = 10000

// obstacle reports whether packets between pods end in a base chain: those that
// a pod sends, or those that come in for one.
func (w *walk) obstacle(base *nftables.Chain, pool netip.Prefix) (Obstacle, bool, error) {
	o := Obstacle{Table: base.Table.Name, Chain: base.Name, Pool: pool, Before: base.Name}
	if slices.ContainsFunc(w.chains, func(c *nftables.Chain) bool { return c.Table.Name == base.Table.Name && c.Name == "DOCKER-USER" }) {
		o.Before = "DOCKER-USER"
	}
	drops := base.Policy != nil && *base.Policy == nftables.ChainPolicyDrop
	for _, p := range []packet{
		{src: pool, dst: pool, in: device{name: podDevice}},
		{src: pool, dst: pool, out: device{name: podDevice}},
	} {
		w.steps = 0
		end, err := w.follow(base.Table, base.Name, p, 0)
		if err != nil {
			return o, false, err
		}
		switch {
		case end == expr.VerdictDrop:
			return o, true, nil
		case end == expr.VerdictContinue && drops:
			o.Policy = true
			return o, true, nil
		}
	}
	return o, false, nil
}

// follow returns the fate of a packet in a chain: accept, drop, or continue when
// it reaches the chain's end.
func (w *walk) follow(table *nftables.Table, chain string, p packet, depth int) (expr.VerdictKind, error) {
	const deep = 16 // NFT_JUMP_STACK_SIZE
	rules, known := w.rules[chain]
	if !known {
		var err error
		if rules, err = w.conn.GetRules(table, &nftables.Chain{Name: chain, Table: table}); err != nil {
			return expr.VerdictContinue, fmt.Errorf("list rules of chain %s: %w", chain, err)
		}
		w.rules[chain] = rules
	}
	for _, r := range rules {
		if w.steps++; depth > deep || w.steps > maxSteps {
			return expr.VerdictAccept, nil // too deep to decide
		}
		verdict, err := w.judge(table, r, p)
		if err != nil || verdict == nil {
			if err != nil {
				return expr.VerdictContinue, err
			}
			continue
		}
		switch verdict.Kind { //nolint:exhaustive // the others leave the packet where it is
		case expr.VerdictAccept, expr.VerdictDrop:
			return verdict.Kind, nil
		case expr.VerdictQueue, expr.VerdictStolen:
			return expr.VerdictAccept, nil // another program decides
		case expr.VerdictReturn:
			return expr.VerdictContinue, nil
		case expr.VerdictJump, expr.VerdictGoto:
			end, err := w.follow(table, verdict.Chain, p, depth+1)
			if err != nil || end != expr.VerdictContinue || verdict.Kind == expr.VerdictGoto {
				return end, err
			}
		}
	}
	return expr.VerdictContinue, nil
}
