package render

import (
	"fmt"
	"reflect"
	"slices"
)

// filterSet is the filters that peers can have.
type filterSet struct {
	chosen map[string]filter // accepted, and kept ones of broken objects
	broken map[string]bool   // rejected and not in force
}

// chooseFilters accepts the filters.
func chooseFilters(in *Input, s *self, b *base, cur *current, l *ledger) *filterSet {
	set := &filterSet{chosen: map[string]filter{}, broken: map[string]bool{}}
	for _, obj := range byAge(in.Filters, filterMeta) {
		f := filter{Name: obj.Name, Rules: obj.Spec.Rules}
		var c checks
		f.check(&c)
		why := c.reason()
		if broken := l.broken(kindFilter, obj.Name); broken != "" {
			why = broken
		}
		kept, ok := cur.filters[obj.Name]
		if why == "" && ok && !reflect.DeepEqual(f, kept) {
			why = breaks(&f, in, s, b, cur)
		}
		switch {
		case why == "":
			set.chosen[f.Name] = f
			continue
		case ok && kept.valid():
			set.chosen[f.Name] = kept
		default:
			set.broken[f.Name] = true
		}
		l.reject(kindFilter, &obj.ObjectMeta, why)
	}
	return set
}

// breaks returns why a changed filter cannot be used any more by a peer in force
// that uses it; "": it can. The peer is not at fault and must not lose its session.
func breaks(f *filter, in *Input, s *self, b *base, cur *current) string {
	for _, obj := range byAge(in.Peers, peerMeta) {
		was, ok := cur.peers[obj.Name]
		if !ok || !selects(obj.Spec.NodeSelector, s.labels) {
			continue
		}
		now := peerOf(obj)
		for _, export := range []bool{false, true} {
			if !slices.Contains(was.filters(export), f.Name) || !slices.Contains(now.filters(export), f.Name) {
				continue
			}
			if text := f.misuse(export, now.external(b.asn)); text != "" {
				return fmt.Sprintf("BGPPeer %s uses the filter for %s: %s", obj.Name, direction(export), text)
			}
		}
	}
	return ""
}

func direction(export bool) string {
	if export {
		return "export"
	}
	return "import"
}
