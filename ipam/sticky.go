package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// sticky is what a named workload had: it gets the same addresses again, on
// this node, as long as they are kept for it.
type sticky struct {
	addrs []netip.Addr
	freed time.Time // when it let go of them; zero: it has them
}

// stickyKey names a workload: namespaces do not share names.
func (r *Request) stickyKey() string {
	if r.Sticky == "" {
		return ""
	}
	return r.Namespace + "/" + r.Sticky
}

func encodeSticky(s sticky) []byte {
	var at uint64
	if !s.freed.IsZero() {
		at = uint64(s.freed.UnixNano())
	}
	v := appendTime(nil, time.Unix(0, int64(at)))
	v = append(v, byte(len(s.addrs)))
	for _, a := range s.addrs {
		v = appendAddr(v, a)
	}
	return v
}

func decodeSticky(key, payload []byte) (sticky, error) {
	r := reader{b: payload}
	s := sticky{freed: r.time()}
	if s.freed.UnixNano() == 0 {
		s.freed = time.Time{}
	}
	n := int(r.byte())
	if n < 1 || n > 2 {
		r.bad, n = true, 0
	}
	for range n {
		s.addrs = append(s.addrs, r.addr())
	}
	return s, r.done("sticky addresses", key)
}

// saveSticky stores what a workload has or had.
func saveSticky(key string, s sticky) change {
	return func(tx *bolt.Tx) error { return put(tx, bucketSticky, []byte(key), encodeSticky(s)) }
}

// dropSticky forgets a workload.
func dropSticky(key string) change {
	return func(tx *bolt.Tx) error { return tx.Bucket(bucketSticky).Delete([]byte(key)) }
}

// readSticky reads all workloads.
func readSticky(tx *bolt.Tx) (map[string]sticky, error) {
	out := map[string]sticky{}
	err := forEach(tx, bucketSticky, func(k, v []byte) error {
		s, err := decodeSticky(k, v)
		out[string(k)] = s
		return err
	})
	return out, err
}

// loadStickyLocked keeps the addresses of the workloads that do not run. Those
// that had them when the last run ended, and are gone, let go of them now; so
// did those that a clock which was ahead says will. What must be stored of that
// it returns.
func (a *Allocator) loadStickyLocked(all map[string]sticky, now time.Time) (todo []change) {
	a.sticky = all
	if len(all) == 0 {
		return nil // the usual case: no look at every attachment
	}
	running := map[string]bool{}
	for _, e := range a.byHandle {
		running[e.Sticky] = true
	}
	for key, s := range all {
		switch {
		case running[key]:
			s.freed = time.Time{}
		case s.freed.IsZero(), s.freed.After(now):
			s.freed = now
			todo = append(todo, saveSticky(key, s))
		default:
			s.freed = past(s.freed, now)
		}
		a.sticky[key] = s
		a.keepLocked(s)
	}
	return todo
}

// keepLocked keeps the addresses of a workload that does not run from others.
func (a *Allocator) keepLocked(s sticky) {
	for _, addr := range s.addrs {
		h := a.blockOf(addr)
		if h == nil {
			continue
		}
		if s.freed.IsZero() {
			delete(h.kept, ordinal(h.CIDR, addr))
			continue
		}
		if h.kept == nil {
			h.kept = map[int]time.Time{}
		}
		h.kept[ordinal(h.CIDR, addr)] = s.freed.Add(a.cfg.Sticky)
	}
}

// pickStickyLocked returns the addresses that are kept for the request's
// workload, when all of them can be had and are what it asks for.
func (a *Allocator) pickStickyLocked(req *Request, families []bool, pools []*Pool) []netip.Addr {
	s, ok := a.sticky[req.stickyKey()]
	if !ok || len(req.Addresses) > 0 || s.freed.IsZero() || time.Since(s.freed) >= a.cfg.Sticky || len(s.addrs) != len(families) {
		return nil
	}
	for i, addr := range s.addrs {
		h := a.blockOf(addr)
		_, barred := a.barsLocked(addr)
		if addr.Is4() != families[i] || h == nil || !h.serves() || barred || a.owner(addr) != nil || !slices.Contains(pools, h.pool) {
			return nil
		}
	}
	return slices.Clone(s.addrs)
}

// holdStickyLocked notes that a workload has its addresses. Of two with one
// name the first keeps them.
func (a *Allocator) holdStickyLocked(e *entry, key string) []change {
	old, known := a.sticky[key]
	if key == "" || known && old.freed.IsZero() {
		return nil
	}
	if known { // what it had before and has not now is not kept any more
		a.unkeepLocked(old)
	}
	todo := a.inheritStickyLocked(key, e.Addresses)
	e.Sticky = key
	s := sticky{addrs: slices.Clone(e.Addresses)}
	a.sticky[key] = s
	a.keepLocked(s)
	return append(todo, saveSticky(key, s))
}

// inheritStickyLocked forgets workloads that had one of addrs, which another
// workload gets now: by name, or because nobody came for it in time. Two that
// remember one address would keep it, and let go of it, for each other.
func (a *Allocator) inheritStickyLocked(heir string, addrs []netip.Addr) []change {
	var todo []change
	for key, s := range a.sticky {
		if key == heir || !slices.ContainsFunc(s.addrs, func(addr netip.Addr) bool { return slices.Contains(addrs, addr) }) {
			continue
		}
		delete(a.sticky, key)
		a.unkeepLocked(s)
		todo = append(todo, dropSticky(key))
	}
	return todo
}

// unkeepLocked gives kept addresses back to everybody.
func (a *Allocator) unkeepLocked(s sticky) {
	a.keepLocked(sticky{addrs: s.addrs})
}

// freeStickyLocked keeps the addresses of an attachment that is released.
func (a *Allocator) freeStickyLocked(e *entry, now time.Time) []change {
	s, ok := a.sticky[e.Sticky]
	if e.Sticky == "" || !ok {
		return nil
	}
	s.freed = now
	a.sticky[e.Sticky] = s
	a.keepLocked(s)
	return []change{saveSticky(e.Sticky, s)}
}

// expireSticky forgets workloads that did not come back in time.
func (a *Allocator) expireSticky() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed != nil {
		return
	}
	for key, s := range a.sticky {
		if s.freed.IsZero() || time.Since(s.freed) < a.cfg.Sticky {
			continue
		}
		delete(a.sticky, key)
		a.unkeepLocked(s)
		a.submitLocked(dropSticky(key))
	}
}

// validateSticky checks the name of a workload.
func (r *Request) validateSticky() error {
	if k := r.stickyKey(); len(k) > maxName {
		return fmt.Errorf("%w: sticky name is longer than %d bytes", ErrInvalidRequest, maxName)
	}
	return nil
}
