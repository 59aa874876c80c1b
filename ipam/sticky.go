package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// sticky has the addresses of a named workload: it gets the same again, on this
// node, as long as they are reserved for it.
type sticky struct {
	addrs []netip.Addr
	freed time.Time // when it released them; zero: it has them
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

// saveSticky stores the addresses of a workload.
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

// workloads are the named workloads that have addresses here, or had them
// lately. The memory's mutex guards it.
type workloads struct {
	held    *index
	keptFor time.Duration // Config.Sticky
	all     map[string]sticky
}

// load takes the stored workloads over and reserves the addresses of those that do
// not run. One that had its addresses when the last run ended, and does not run
// any more, has released them now; so has one whose time is in the future, because
// the clock was ahead. It returns the changes that store this.
func (w *workloads) load(all map[string]sticky, now time.Time) (todo []change) {
	w.all = all
	if len(all) == 0 {
		return nil // the usual case: no pass over every attachment
	}
	running := map[string]bool{}
	for _, e := range w.held.byHandle {
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
		w.all[key] = s
		w.keep(s)
	}
	return todo
}

// keep keeps the addresses of a workload that does not run from others.
func (w *workloads) keep(s sticky) {
	for _, addr := range s.addrs {
		h := w.held.blockOf(addr)
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
		h.kept[ordinal(h.CIDR, addr)] = s.freed.Add(w.keptFor)
	}
}

// pick returns the addresses that are reserved for the request's workload, when
// all of them are available and match the request.
func (w *workloads) pick(req *Request, families []bool, pools []*Pool, barred func(netip.Addr) bool) []netip.Addr {
	s, ok := w.all[req.stickyKey()]
	if !ok || len(req.Addresses) > 0 || s.freed.IsZero() || time.Since(s.freed) >= w.keptFor || len(s.addrs) != len(families) {
		return nil
	}
	for i, addr := range s.addrs {
		h := w.held.blockOf(addr)
		if addr.Is4() != families[i] || h == nil || !h.serves() || barred(addr) || w.held.owner(addr) != nil || !slices.Contains(pools, h.pool) {
			return nil
		}
	}
	return slices.Clone(s.addrs)
}

// hold notes that a workload has its addresses. Of two with one
// name the first keeps them.
func (w *workloads) hold(e *entry, key string) []change {
	old, known := w.all[key]
	if key == "" || known && old.freed.IsZero() {
		return nil
	}
	if known { // former addresses that it has not now are not reserved any more
		w.unkeep(old)
	}
	todo := w.inherit(key, e.Addresses)
	e.Sticky = key
	s := sticky{addrs: slices.Clone(e.Addresses)}
	w.all[key] = s
	w.keep(s)
	return append(todo, saveSticky(key, s))
}

// inherit forgets workloads that had one of addrs, which another workload gets
// now: by name, or because its reservation has ended. Two workloads with one
// recorded address would reserve and release it for each other.
func (w *workloads) inherit(heir string, addrs []netip.Addr) []change {
	var todo []change
	for key, s := range w.all {
		if key == heir || !slices.ContainsFunc(s.addrs, func(addr netip.Addr) bool { return slices.Contains(addrs, addr) }) {
			continue
		}
		delete(w.all, key)
		w.unkeep(s)
		todo = append(todo, dropSticky(key))
	}
	return todo
}

// unkeep ends the reservation of addresses.
func (w *workloads) unkeep(s sticky) {
	w.keep(sticky{addrs: s.addrs})
}

// free keeps the addresses of an attachment that is released.
func (w *workloads) free(e *entry, now time.Time) []change {
	s, ok := w.all[e.Sticky]
	if e.Sticky == "" || !ok {
		return nil
	}
	s.freed = now
	w.all[e.Sticky] = s
	w.keep(s)
	return []change{saveSticky(e.Sticky, s)}
}

// expire forgets the workloads that did not return in time, and returns the
// changes that store it.
func (w *workloads) expire() []change {
	var todo []change
	for key, s := range w.all {
		if s.freed.IsZero() || time.Since(s.freed) < w.keptFor {
			continue
		}
		delete(w.all, key)
		w.unkeep(s)
		todo = append(todo, dropSticky(key))
	}
	return todo
}

// recovered finds the workload of a recovered assignment: the one of its
// namespace that had exactly these addresses. Others that had one of them
// forget it, because they would hand it on.
func (w *workloads) recovered(as *Assignment) []change {
	as.Sticky = ""
	for key, s := range w.all {
		if ns, _, ok := strings.Cut(key, "/"); ok && ns == as.Namespace && slices.Equal(s.addrs, as.Addresses) {
			as.Sticky = key
		}
	}
	todo := w.inherit(as.Sticky, as.Addresses)
	if as.Sticky != "" {
		todo = append(todo, saveSticky(as.Sticky, sticky{addrs: slices.Clone(as.Addresses)}))
	}
	return todo
}

// validateSticky checks the name of a workload.
func (r *Request) validateSticky() error {
	if k := r.stickyKey(); len(k) > maxName {
		return fmt.Errorf("%w: sticky name is longer than %d bytes", ErrInvalidRequest, maxName)
	}
	return nil
}
