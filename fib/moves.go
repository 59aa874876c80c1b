package fib

import "context"

// movesOf returns the live objects whose routes, all of them, move to one and the
// same nexthop that has no object yet, keyed by that heir.
func movesOf(work []*entry) map[*nexthop]*nexthop {
	for _, e := range work {
		if e.have != nil {
			e.have.heir, e.have.movers, e.have.split = nil, 0, false
		}
	}
	for _, e := range work {
		old := e.have
		if old == nil || e.doubt {
			continue
		}
		old.movers++
		heir := e.want.target()
		if old.movers == 1 {
			old.heir = heir
		}
		old.split = old.split || old.heir != heir
	}
	var moves map[*nexthop]*nexthop
	for _, e := range work {
		old := e.have
		if old == nil || old.heir == nil || !old.abandoned() {
			continue
		}
		heir := old.heir
		if heir.kind != old.kind || heir.live || heir.id != 0 || moves[heir] != nil {
			continue
		}
		if moves == nil {
			moves = make(map[*nexthop]*nexthop)
		}
		moves[heir] = old
	}
	return moves
}

// abandoned reports whether every route over the live object nh was in the
// round and left it for the same heir.
func (nh *nexthop) abandoned() bool {
	return nh.live && nh.object() && !nh.split && nh.movers == nh.users && nh.refs == 0 && nh.groups == 0
}

// finishMoves gives the ID and the routes of a moved object to its heir.
func (w *writer) finishMoves(work []*entry, moves map[*nexthop]*nexthop) {
	if len(moves) == 0 {
		return
	}
	for _, e := range work {
		heir := e.want.target()
		if old := e.have; old != nil && heir != nil && moves[heir] == old && heir.live && heir.id == old.id {
			w.routes.setHave(e, heir)
			w.routes.failing.clear(e)
			w.routes.stats.Moved++
		}
	}
	for heir, old := range moves {
		if heir.live && heir.id == old.id {
			old.id, old.live = 0, false
			w.routes.hops.byID[heir.id] = heir
		}
	}
}

// dropDead removes a node that died with one message: deleting an object makes
// the kernel remove its routes. The kernel walks its whole trie for it, so it
// pays only for an object with many routes (measured: about 11 ns a route in the
// table against 6 us for each route deleted).
func (w *writer) dropDead(ctx context.Context, work []*entry) error {
	least := max(64, w.routes.entries.len()/256)
	var dead []*nexthop
	for _, e := range work {
		old := e.have
		if e.want != nil || old == nil || e.stale || old.heir != nil || old.users < least || !old.abandoned() || old.needed {
			continue
		}
		old.needed = true
		dead = append(dead, old)
		if err := w.add(ctx, request{verb: deleteNexthop, nh: old, id: old.id}); err != nil {
			return err
		}
	}
	if dead == nil {
		return nil
	}
	err := w.send(ctx)
	for _, e := range work {
		old := e.have
		if old == nil || !old.needed {
			continue
		}
		if err == nil && !old.live && e.want == nil {
			w.routes.setHave(e, nil)
			w.routes.stats.Deleted++
		}
	}
	for _, nh := range dead {
		nh.needed = false
	}
	return err
}
