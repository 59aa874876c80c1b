package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"onlink/bgp/gobgp"
)

// setLog are the best-path sets that a watcher received.
type setLog struct {
	mu      sync.Mutex // guards all below
	sets    map[netip.Prefix][]string
	flushes int
	open    bool // set was called and flush not yet
}

func (l *setLog) set(p netip.Prefix, paths []gobgp.Path) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
	list := []string{}
	for _, p := range paths {
		list = append(list, fmt.Sprintf("%s from %s", p.NextHop, p.Peer))
	}
	slices.Sort(list)
	l.sets[p] = list
}

func (l *setLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushes++
	l.open = false
}

// of returns the last set of a prefix.
func (l *setLog) of(p netip.Prefix) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		return nil
	}
	return l.sets[p]
}

// TestBestSetsAreWhole: a patched engine calls a watcher with the whole multipath
// set of a prefix at each change, with the table when it begins, and not at all
// after it has stopped.
func TestBestSetsAreWhole(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, withoutPools(testConfig(t, "127.41.0.1")))[0]
	n.setPeers(nil, anything(clientsOfBoth("127.41.1.0/24")))
	watch := func() (*setLog, func()) {
		l := &setLog{sets: map[netip.Prefix][]string{}}
		return l, n.engine.WatchSets(l.set, l.flush)
	}
	early, stopEarly := watch()
	defer stopEarly()
	p, p6 := prefix("10.244.0.0/26"), prefix("fd00:244::/64")
	one, two := "127.41.1.1 from 127.41.1.1", "127.41.1.2 from 127.41.1.2"
	expect := func(l *setLog, p netip.Prefix, want ...string) {
		t.Helper()
		eventually(t, func() string {
			if got := l.of(p); got == nil || !slices.Equal(got, want) {
				return fmt.Sprintf("%s: told %q, want %q", p, got, want)
			}
			return ""
		})
	}

	a, b := connectClient(t, "127.41.1.1", "127.41.0.1"), connectClient(t, "127.41.1.2", "127.41.0.1")
	a.announce(0, p)
	a.announce(0, p6)
	expect(early, p, one)
	expect(early, p6, a.hop6().String()+" from 127.41.1.1")
	b.announce(0, p)
	expect(early, p, one, two)

	late, stopLate := watch()
	if got := late.of(p); !slices.Equal(got, []string{one, two}) || late.flushes != 1 {
		t.Errorf("a late watcher was told %q in %d batches", got, late.flushes)
	}
	stopLate()
	a.withdraw(p)
	expect(early, p, two)
	_ = b.conn.Close() // a lost session for the engine
	expect(early, p)
	if got := late.of(p); !slices.Equal(got, []string{one, two}) {
		t.Errorf("a watcher that had stopped was told %q", got)
	}
}
