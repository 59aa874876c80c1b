package nft

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"onlink/internal/ours"
)

// holds compares the kernel's table with a state, by reading it back without
// the code that wrote it: the nodes, the pools' boundaries, the chains.
func holds(s State) error {
	c, err := dial()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: ours.FilterTable, Family: nftables.TableFamilyINet}
	sets, err := c.GetSets(table)
	if err != nil {
		return err
	}
	var nodes, pools []netip.Addr
	for _, set := range sets {
		elements, err := c.GetSetElements(set)
		if err != nil {
			return err
		}
		for _, e := range elements {
			a, ok := netip.AddrFromSlice(e.Key)
			switch {
			case !ok:
				return fmt.Errorf("set %s holds %x", set.Name, e.Key)
			case set.Name == "nodes4" || set.Name == "nodes6":
				nodes = append(nodes, a)
			case (set.Name == "pools4" || set.Name == "pools6") && !e.IntervalEnd:
				pools = append(pools, a)
			}
		}
	}
	var wantNodes, wantPools []netip.Addr
	if s.Guard {
		wantNodes = slices.Clone(s.Nodes)
	}
	for _, p := range s.Pools {
		// The tests' neighbouring pools become one interval.
		if !slices.ContainsFunc(s.Pools, func(q netip.Prefix) bool { return lastOf(q).Next() == p.Addr() }) {
			wantPools = append(wantPools, p.Addr())
		}
	}
	for _, list := range [][]netip.Addr{nodes, pools, wantNodes, wantPools} {
		slices.SortFunc(list, netip.Addr.Compare)
	}
	if !slices.Equal(nodes, wantNodes) {
		return fmt.Errorf("%d nodes in the kernel, want %d", len(nodes), len(wantNodes))
	}
	if !slices.Equal(pools, wantPools) {
		return fmt.Errorf("pools in the kernel begin at %v, want %v", pools, wantPools)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	want := map[bool]int{false: 1, true: 3}[s.Guard]
	if len(s.Spread) > 0 {
		want++
	}
	if len(chains) != want {
		return fmt.Errorf("%d chains, want %d", len(chains), want)
	}
	return nil
}
