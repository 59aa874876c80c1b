package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"onlink/internal/ours"
)

// Cause is why a rule of onlink's tables drops packets.
type Cause string

// The causes, by chain.
const (
	DropGuard    Cause = "guard"    // tunnelled packets that no known node sent, or that a pod built itself
	DropAddress  Cause = "address"  // packets of pods with a source address that is not theirs
	DropMAC      Cause = "mac"      // frames of pods with a source MAC address that is not theirs
	DropRegistry Cause = "registry" // packets of pods to the block registry that this node serves
)

// causes are the chains of each table with rules that drop.
var causes = []struct {
	table, mark string
	chains      map[string]Cause
}{
	{ours.FilterTable, ours.FilterMark, map[string]Cause{
		"input": DropGuard, "forward": DropGuard, "prerouting": DropAddress,
		"registry-input": DropRegistry, "registry-forward": DropRegistry,
	}},
	{ours.SendersTable, ours.SendersSet, map[string]Cause{"prerouting": DropMAC}},
}

// Drops returns how many packets the rules of onlink's tables in the calling thread's
// network namespace have dropped, by cause; a cause without a rule is absent. A table
// that is written again begins at 0.
func Drops() (map[Cause]uint64, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	out := map[Cause]uint64{}
	for _, t := range causes {
		if err := notForeign(conn, t.table, t.mark); errors.Is(err, ErrForeign) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, c := range chains {
			cause, drops := t.chains[c.Name]
			if c.Table.Name != t.table || !drops {
				continue
			}
			rules, err := conn.GetRules(c.Table, c)
			if err != nil {
				return nil, fmt.Errorf("list rules of chain %s: %w", c.Name, err)
			}
			for _, r := range rules {
				out[cause] += packets(r)
			}
		}
	}
	return out, nil
}

// packets returns the packets that a rule has counted.
func packets(r *nftables.Rule) (n uint64) {
	for _, e := range r.Exprs {
		if c, is := e.(*expr.Counter); is {
			n += c.Packets
		}
	}
	return n
}
