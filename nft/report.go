package nft

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// reportElements bounds the elements of each set in a report.
const reportElements = 64

// Report writes the ruleset of the calling thread's network namespace as text, for a
// person: tables, sets with their first elements, chains, and each rule as the kernel has
// it, expression by expression.
func Report(w io.Writer) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables socket: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	for _, t := range tables {
		fmt.Fprintf(w, "table %s %s\n", familyName(t.Family), t.Name)
		if err := reportSets(w, conn, t); err != nil {
			return err
		}
		for _, c := range chains {
			if c.Table.Name != t.Name || c.Table.Family != t.Family {
				continue
			}
			if err := reportChain(w, conn, t, c); err != nil {
				return err
			}
		}
	}
	_, err = fmt.Fprintf(w, "# %d tables\n", len(tables))
	return err
}

func reportSets(w io.Writer, conn *nftables.Conn, t *nftables.Table) error {
	sets, err := conn.GetSets(t)
	if err != nil {
		return fmt.Errorf("list sets of table %s: %w", t.Name, err)
	}
	for _, s := range sets {
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return fmt.Errorf("list elements of set %s %s: %w", t.Name, s.Name, err)
		}
		fmt.Fprintf(w, "  set %s type %s, %d elements\n", s.Name, s.KeyType.Name, len(elements))
		for _, e := range elements[:min(len(elements), reportElements)] {
			fmt.Fprintf(w, "    %x end %x interval-end %v\n", e.Key, e.KeyEnd, e.IntervalEnd)
		}
	}
	return nil
}

func reportChain(w io.Writer, conn *nftables.Conn, t *nftables.Table, c *nftables.Chain) error {
	line := "  chain " + c.Name
	if c.Hooknum != nil && c.Priority != nil {
		line += fmt.Sprintf(" type %s hook %d priority %d", c.Type, *c.Hooknum, *c.Priority)
	}
	if c.Policy != nil {
		line += map[bool]string{true: " policy drop", false: " policy accept"}[*c.Policy == nftables.ChainPolicyDrop]
	}
	fmt.Fprintln(w, line)
	rules, err := conn.GetRules(t, c)
	if err != nil {
		return fmt.Errorf("list rules of chain %s %s: %w", t.Name, c.Name, err)
	}
	for _, r := range rules {
		words := make([]string, len(r.Exprs))
		for i, e := range r.Exprs {
			words[i] = exprText(e)
		}
		if _, err := fmt.Fprintf(w, "    rule %d: %s\n", r.Handle, strings.Join(words, " | ")); err != nil {
			return err
		}
	}
	return nil
}

// exprText writes an expression with its fields.
func exprText(e expr.Any) string {
	if v, ok := e.(*expr.Verdict); ok {
		return fmt.Sprintf("verdict %d %s", v.Kind, v.Chain)
	}
	name := strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr.")
	return strings.ToLower(name) + strings.TrimPrefix(fmt.Sprintf("%+v", e), "&")
}

// familyName is the name of a family in nft(8).
func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyARP:
		return "arp"
	case nftables.TableFamilyNetdev:
		return "netdev"
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyUnspecified:
	}
	return strconv.Itoa(int(f))
}
