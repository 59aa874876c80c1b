// Part of the patch hooks/import-check.

package table

import "github.com/osrg/gobgp/v3/pkg/packet/bgp"

// SetRefused notes whether the import of a path was refused. What is not, or
// not any more, in the table is not noted.
func (adj *AdjRib) SetRefused(path *Path, refused bool) {
	if path.refused == refused {
		return
	}
	rf := path.GetRouteFamily()
	if t := adj.table[rf]; t == nil || t.get(path.GetNlri()) != path {
		return
	}
	if path.refused = refused; refused {
		adj.refused[rf]++
	} else {
		adj.refused[rf]--
	}
}

// SetHeld says of a path whether its prefix is one node's alone: of held paths
// with different next hops only those of one are used, and LOCAL_PREF has no
// say between them. announced is the path before policy, which may have set a
// LOCAL_PREF of its own. It returns the path to use.
func (path *Path) SetHeld(announced *Path, held bool) *Path {
	if held {
		was, _ := announced.GetLocalPref()
		if now, _ := path.GetLocalPref(); now == was && now != DEFAULT_LOCAL_PREF {
			path = path.Clone(false)
			path.setPathAttr(bgp.NewPathAttributeLocalPref(DEFAULT_LOCAL_PREF))
		}
	}
	path.held = held
	return path
}

// rivals reports whether other must not be used beside path.
func (path *Path) rivals(other *Path) bool {
	return path.held && !path.GetNexthop().Equal(other.GetNexthop())
}

// keepHolder moves a path of the node that holds the prefix to the front, if
// held paths are the best: of the node whose path was the best in old, else of
// the one that came first. What a node says itself goes before what others say
// of it, which may not get everywhere.
func (dest *Destination) keepHolder(old []*Path) {
	list := dest.knownPathList
	if len(list) < 2 || !list[0].held {
		return
	}
	holder := list[0]
	if len(old) > 0 && old[0].held && dest.holds(old[0]) {
		holder = old[0]
	} else {
		for _, p := range list[1:] {
			if p.held && p.info.timestamp < holder.info.timestamp {
				holder = p
			}
		}
	}
	best := -1
	for i, p := range list {
		if !p.held || holder.rivals(p) {
			continue
		}
		if best < 0 {
			best = i
		}
		if p.GetSource().Address.Equal(p.GetNexthop()) {
			best = i
			break
		}
	}
	if best > 0 {
		p := list[best]
		copy(list[1:best+1], list[:best])
		list[0] = p
	}
}

// holds reports whether a held path of the same node as p is known.
func (dest *Destination) holds(p *Path) bool {
	for _, q := range dest.knownPathList {
		if q.held && !p.rivals(q) {
			return true
		}
	}
	return false
}

// IsHeld reports what SetHeld said.
func (path *Path) IsHeld() bool { return path.held }

// isContested reports whether held paths of several nodes are known.
func (dest *Destination) isContested() bool {
	list := dest.knownPathList
	if len(list) < 2 || !list[0].held {
		return false
	}
	for _, p := range list[1:] {
		if p.held && list[0].rivals(p) {
			return true
		}
	}
	return false
}

// noteContest keeps a destination that became contested, so that Contested need not
// look at every destination: with 100,000 of them that took more of a core than the
// routes that change.
func (t *Table) noteContest(dest *Destination) {
	if !dest.isContested() {
		return
	}
	if t.contests == nil {
		t.contests = make(map[*Destination]struct{})
	}
	t.contests[dest] = struct{}{}
}

// Contested yields the destinations of which held paths of several nodes are known,
// in no order.
func (t *Table) Contested(yield func(*Destination) bool) {
	for dest := range t.contests {
		if !dest.isContested() {
			delete(t.contests, dest)
		} else if !yield(dest) {
			return
		}
	}
}
