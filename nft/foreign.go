package nft

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// ErrForeign is returned when a table of our name is not ours: it has content
// and none of our sets. It is left alone.
var ErrForeign = errors.New("table is not onlink's")

// notForeign rejects a table of our name that another program made. A table of
// ours always has the set named mark, whatever else was changed in it; an empty
// one may be taken.
func notForeign(conn *nftables.Conn, name, mark string) error {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	sets, err := conn.GetSets(tables[i])
	if err != nil {
		return fmt.Errorf("list sets of table inet %s: %w", name, err)
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	var has []string
	for _, s := range sets {
		if s.Name == mark {
			return nil
		}
		has = append(has, "set "+s.Name)
	}
	for _, c := range chains {
		if c.Table.Name == name {
			has = append(has, "chain "+c.Name)
		}
	}
	if len(has) == 0 {
		return nil
	}
	return fmt.Errorf("%w: inet %s has %s, not touched; rename or delete it", ErrForeign, name, strings.Join(has, ", "))
}
