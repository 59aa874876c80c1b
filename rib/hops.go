package rib

import (
	"slices"
	"unique"
)

// MakeHops returns the interned set of hops: sorted, without duplicates of
// the same gateway and device, at most [MaxHops].
func MakeHops(hops ...Hop) Hops {
	if len(hops) == 0 {
		return Hops{}
	}
	var buf [MaxHops]Hop
	sorted := append(buf[:0], hops...)
	slices.SortFunc(sorted, Hop.Compare)
	sorted = slices.CompactFunc(sorted, func(a, b Hop) bool { return a.Via == b.Via && a.Dev == b.Dev })
	var set Hops
	for i := min(len(sorted), MaxHops) - 1; i >= 0; i-- {
		set = Hops{unique.Make(hopNode{hop: sorted[i], rest: set.h})}
	}
	return set
}
