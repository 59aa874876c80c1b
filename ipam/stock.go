package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// stock is the addresses that a node has to give: its blocks and assignments,
// and the pools that they lie in. The memory's mutex guards it.
type stock struct {
	index

	pools    []Pool
	cooldown time.Duration // Config.Cooldown
}

// loadFreed brings back when addresses were freed, oldest first.
func (s *stock) loadFreed(freed map[netip.Addr]time.Time, now time.Time) {
	type item struct {
		addr netip.Addr
		at   time.Time
	}
	items := make([]item, 0, len(freed))
	for addr, at := range freed {
		items = append(items, item{addr, past(at, now)})
	}
	slices.SortFunc(items, func(x, y item) int {
		return cmp.Or(x.at.Compare(y.at), x.addr.Compare(y.addr))
	})
	for _, it := range items {
		h := s.blockOf(it.addr)
		if h == nil || s.owner(it.addr) != nil {
			continue
		}
		h.free(ordinal(h.CIDR, it.addr), it.at)
	}
	for _, h := range s.order {
		h.emptySince = now // hysteresis begins anew
	}
}

// assignPools gives every block its pool and puts the blocks in filling order:
// by the pool's place, then as claimed.
func (s *stock) assignPools() {
	place := map[*Pool]int{}
	for i := range s.pools {
		place[&s.pools[i]] = i
	}
	place[nil] = len(s.pools)
	for _, h := range s.order {
		h.pool = s.poolOf(h.CIDR.Addr())
		h.next = 0
	}
	slices.SortFunc(s.order, func(x, y *held) int {
		return cmp.Or(cmp.Compare(place[x.pool], place[y.pool]), cmp.Compare(x.Epoch, y.Epoch), comparePrefix(x.CIDR, y.CIDR))
	})
}

// poolOf returns the configured pool that addr lies in, or nil.
func (s *stock) poolOf(addr netip.Addr) *Pool {
	for i := range s.pools {
		if s.pools[i].CIDR.Contains(addr) {
			return &s.pools[i]
		}
	}
	return nil
}

// pick finds an address in the held blocks of pools, in order.
func (s *stock) pick(pools []*Pool, now time.Time) (netip.Addr, bool) {
	for _, p := range pools {
		for _, h := range s.order {
			if h.pool != p || !h.serves() {
				continue
			}
			if n, ok := h.pick(now, s.cooldown); ok {
				return addrAt(h.CIDR, n), true
			}
		}
	}
	return netip.Addr{}, false
}

// eligible returns the pools a request may use, in order.
func (s *stock) eligible(req *Request) ([]*Pool, error) {
	var out []*Pool
	if len(req.Pools) == 0 {
		for i := range s.pools {
			if p := &s.pools[i]; p.automatic(req.Namespace) {
				out = append(out, p)
			}
		}
		return out, nil
	}
	for _, name := range req.Pools {
		i := slices.IndexFunc(s.pools, func(p Pool) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: pool %q does not exist: name one of %s", ErrInvalidRequest, name, s.poolNames())
		}
		if p := &s.pools[i]; p.closed() {
			return nil, fmt.Errorf("%w: pool %q is %s", ErrInvalidRequest, name, p.closedWord())
		}
		out = append(out, &s.pools[i])
	}
	return out, nil
}

func (s *stock) poolNames() string {
	var names []string
	for _, p := range s.pools {
		names = append(names, fmt.Sprintf("%q", p.Name))
	}
	return strings.Join(names, ", ")
}

// exhausted is the error of an assign that found no address in pools, which are
// of one family: how full each is, and the remedies.
func (s *stock) exhausted(pools []*Pool, is4 bool, now time.Time) error {
	var b strings.Builder
	for _, p := range pools {
		blocks, used, total, cooling := 0, 0, 0, 0
		soon := s.cooldown
		for _, h := range s.order {
			if h.pool != p {
				continue
			}
			n, first := h.cooling(now, s.cooldown)
			blocks, used, total, cooling = blocks+1, used+h.used, total+len(h.slots), cooling+n
			if n > 0 {
				soon = min(soon, first)
			}
		}
		fmt.Fprintf(&b, "; pool %q (%v): %d blocks on this node, %d of %d addresses in use", p.Name, p.CIDR, blocks, used, total)
		if cooling > 0 {
			fmt.Fprintf(&b, ", %d cooling down (first one is free in %v)", cooling, soon.Round(time.Second))
		}
		b.WriteString(", no free block in the pool")
	}
	if b.Len() == 0 {
		family := "IPv4"
		if !is4 {
			family = "IPv6"
		}
		return fmt.Errorf("%w: no enabled pool has %s addresses: add one", ErrExhausted, family)
	}
	return fmt.Errorf("%w%s: add a pool, or free blocks of dead nodes", ErrExhausted, b.String())
}

// promise keeps the empty blocks of a claim until the assigns that waited for it
// had time to take an address. On a draining node the block would be released
// before they do, they would claim once more, and so on for ever.
func (s *stock) promise(t target) {
	until := time.Now().Add(promiseTime)
	for _, h := range s.order {
		if h.used == 0 && h.serves() && h.pool.Name == t.pool && (!t.block.IsValid() || h.CIDR == t.block) {
			h.promised = until
		}
	}
}

// serves reports whether a claim is not needed any more, because a block that
// was claimed ahead meanwhile serves it.
func (s *stock) serves(t target) bool {
	now := time.Now()
	for _, h := range s.order {
		if !h.serves() || h.pool.Name != t.pool || t.block.IsValid() && h.CIDR != t.block {
			continue
		}
		if _, free := h.pick(now, s.cooldown); free || t.block.IsValid() {
			return true
		}
	}
	return false
}

// inTheWay returns the held blocks that overlap b and are no more than a
// guess of it, to be replaced by it, and one that is not, nil when there is
// none.
func (s *stock) inTheWay(b Block) (guesses []*held, other *held) {
	for p, h := range s.blocks {
		switch {
		case p == b.CIDR || !p.Overlaps(b.CIDR):
		case h.Epoch == recoveredEpoch && b.Epoch > recoveredEpoch:
			guesses = append(guesses, h)
		default:
			other = h
		}
	}
	return guesses, other
}

// count returns a pool's serving blocks, their used addresses, and how
// many of the blocks are spare.
func (s *stock) count(p *Pool, now time.Time) (blocks, used, spare int) {
	for _, h := range s.order {
		if h.pool != p || !h.serves() {
			continue
		}
		blocks++
		used += h.used
		if h.spare(now, s.cooldown) {
			spare++
		}
	}
	return blocks, used, spare
}

// result returns a copy of an assignment with its blocks filled in.
func (s *stock) result(e *entry) Assignment {
	r := e.Assignment.clone()
	r.Blocks = make([]netip.Prefix, len(r.Addresses))
	for i, addr := range r.Addresses {
		if h := s.blockOf(addr); h != nil {
			r.Blocks[i] = h.CIDR
		}
	}
	return r
}

// known returns an assignment if it is durable.
func (s *stock) known(e *entry) (Assignment, bool) {
	if e == nil || !e.born.durable() {
		return Assignment{}, false
	}
	return s.result(e), true
}
