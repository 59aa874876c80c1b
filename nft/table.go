// Package nft owns two nftables tables. "inet onlink" has the masquerading of
// packets that leave all pools, the guard that accepts tunnelled packets only
// from known nodes, the rule that a pod sends from its own addresses, and the
// mark that spreads tunnelled flows over uplinks. "inet onlink-pods" has the rule
// that a pod sends from its own MAC address ([Senders]).
//
// The first table is a function of one [State]. It is replaced in one transaction,
// so no packet meets half of it, and no other table is read or changed. A
// change of the known nodes alone is an update of a set's elements.
//
//	chain prerouting (raw):    from a pod, source not routed back to it -> drop
//	chain spread (mangle):     into Spread, without a mark -> ours.SpreadMark
//	chain postrouting (nat):   from MasqueradeFrom, not to Pools  -> masquerade
//	chain input (filter):      IP protocol 4, 41 or VXLAN, not from Nodes -> drop
//	chain forward (filter):    the same out of a pod, not to Pools -> drop
//	chains registry-input and registry-forward (filter): TCP out of Pools to Registry -> drop
//
// The guard sits in the input hook and not before it, because it must not judge
// packets that this node only forwards, and because the input hook sees whole
// packets and not fragments. The forward chain closes the way around it: tunnelled
// packets that a pod builds by itself would be masqueraded to its node's address,
// which the guard accepts.
//
// A [Table] is for one goroutine. It acts on the network namespace of the
// calling thread.
package nft

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/nftables"

	"onlink/internal/ours"
)

// Table is the table "inet onlink" of this network namespace.
type Table struct {
	log     *slog.Logger
	applied bool
	state   State  // the last written one, in normal form; valid if applied
	written string // the kernel's table after that write
	seen    uint32 // generation of the ruleset that had it; 0: not known
	writes  uint64 // transactions so far
}

// New returns the table; nothing is read or written before [Table.Apply]. A
// nil logger discards.
func New(log *slog.Logger) *Table {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Table{log: log}
}

// Apply makes the kernel's table express the state. It writes nothing when
// the state is the last one and the kernel still holds it, replaces the table
// when another program changed it, and takes over the table of an earlier run.
// After an error the table is unchanged; so is a foreign one under our name
// ([ErrForeign]).
func (t *Table) Apply(s State) error {
	s = s.normal()
	conn, err := dial()
	if err != nil {
		return err
	}
	if t.applied && t.state.sameRules(s) {
		generation, err := Generation() // before the table is read: a later change shows
		if err != nil {
			return err
		}
		same := slices.Equal(t.state.Nodes, s.Nodes)
		if same && generation != 0 && generation == t.seen {
			return nil
		}
		now, err := settled(0, func() (string, error) { return fingerprint(conn) })
		if err != nil {
			return err
		}
		switch {
		case now != t.written:
			t.log.Warn("nftables table was changed by another program, writing it again", "table", "inet "+ours.FilterTable)
		case same:
			t.seen = generation
			return nil
		default:
			return t.updateNodes(conn, s)
		}
	}
	return t.replace(conn, s)
}

// replace writes the whole table in one transaction.
func (t *Table) replace(conn *nftables.Conn, s State) error {
	t.applied = false
	if err := notForeign(conn, ours.FilterTable, ours.FilterMark); err != nil {
		return err
	}
	table := &nftables.Table{Name: ours.FilterTable, Family: nftables.TableFamilyINet}
	// Deleting an absent table is an error, so the table is added first.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	if err := build(conn, table, s); err != nil {
		return fmt.Errorf("build table inet %s: %w", ours.FilterTable, err)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write table inet %s: %w", ours.FilterTable, err)
	}
	t.writes++
	if err := t.remember(conn, s); err != nil {
		return err
	}
	t.log.Info("nftables table written", "table", "inet "+ours.FilterTable,
		"masquerade_pools", len(s.MasqueradeFrom), "guard", s.Guard, "nodes", len(s.Nodes))
	return nil
}

// updateNodes changes the elements of the sets of known nodes. A node is added
// before another is removed, in one transaction.
func (t *Table) updateNodes(conn *nftables.Conn, s State) error {
	table := &nftables.Table{Name: ours.FilterTable, Family: nftables.TableFamilyINet}
	added, removed := difference(s.Nodes, t.state.Nodes), difference(t.state.Nodes, s.Nodes)
	for _, fam := range families {
		set := fam.set(table, setNodes, false)
		for part := range slices.Chunk(fam.addresses(added), elementsPerMessage) {
			if err := conn.SetAddElements(set, part); err != nil {
				return fmt.Errorf("add nodes to set %s: %w", set.Name, err)
			}
		}
		for part := range slices.Chunk(fam.addresses(removed), elementsPerMessage) {
			if err := conn.SetDeleteElements(set, part); err != nil {
				return fmt.Errorf("remove nodes from set %s: %w", set.Name, err)
			}
		}
	}
	if err := conn.Flush(); err != nil {
		// Another program changed the set meanwhile; the next Apply writes the
		// whole table.
		t.applied = false
		return fmt.Errorf("update known nodes: %w", err)
	}
	t.writes++
	t.log.Debug("nftables nodes updated", "added", len(added), "removed", len(removed))
	return t.remember(conn, s)
}

// remember records the kernel's table after a write, so that the next Apply
// detects a foreign change.
func (t *Table) remember(conn *nftables.Conn, s State) error {
	now, err := settled(0, func() (string, error) { return fingerprint(conn) })
	if err != nil {
		t.applied = false
		return err
	}
	t.applied, t.state, t.written = true, s, now
	return nil
}

// Remove deletes the table. An absent table is no error.
func (t *Table) Remove() error {
	conn, err := dial()
	if err != nil {
		return err
	}
	if err := notForeign(conn, ours.FilterTable, ours.FilterMark); err != nil {
		return err
	}
	table := &nftables.Table{Name: ours.FilterTable, Family: nftables.TableFamilyINet}
	conn.AddTable(table)
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove table inet %s: %w", ours.FilterTable, err)
	}
	t.applied = false
	t.writes++
	return nil
}

// Writes returns the number of transactions so far, for metrics.
func (t *Table) Writes() uint64 { return t.writes }

// fingerprint describes the kernel's table: chains, rules and set elements, but
// no counters. It is "" when there is no table.
func fingerprint(conn *nftables.Conn) (string, error) {
	var b strings.Builder
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", fmt.Errorf("list chains: %w", err)
	}
	table := &nftables.Table{Name: ours.FilterTable, Family: nftables.TableFamilyINet}
	for _, c := range chains {
		if c.Table.Name != ours.FilterTable {
			continue
		}
		rules, err := conn.GetRules(table, c)
		if err != nil {
			return "", fmt.Errorf("list rules of chain %s: %w", c.Name, err)
		}
		fmt.Fprintf(&b, "chain %s", c.Name)
		for _, r := range rules {
			fmt.Fprintf(&b, " %d", r.Handle)
		}
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return "", nil
	}
	sets, err := conn.GetSets(table)
	if err != nil {
		return "", fmt.Errorf("list sets: %w", err)
	}
	for _, set := range sets {
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return "", fmt.Errorf("list elements of set %s: %w", set.Name, err)
		}
		keys := make([]string, len(elements))
		for i, e := range elements {
			keys[i] = fmt.Sprintf("%x/%t", e.Key, e.IntervalEnd)
		}
		slices.Sort(keys) // a hash set lists in any order
		fmt.Fprintf(&b, "set %s %s\n", set.Name, strings.Join(keys, " "))
	}
	return b.String(), nil
}
