package node

import (
	"cmp"
	"testing"
	"time"
)

func TestDeletions(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	one := func(kind string, seconds int) deletion {
		return deletion{kind: kind, names: []string{"a"}, at: at(seconds), seen: true}
	}
	for _, c := range []struct {
		name     string
		what     string // "": config
		gone     []deletion
		accepted int // seconds; what was rendered then was accepted
		now      int
		ok       bool
		wait     time.Duration
	}{
		{"none", "", nil, -1, 60, false, 0},
		{"one, alone for long enough", "", []deletion{one("BGPPeer", 0)}, -1, 10, true, 0},
		{"one, others may follow", "", []deletion{one("BGPPeer", 0)}, -1, 4, false, 6 * time.Second},
		{"a second one follows", "", []deletion{one("BGPPeer", 0), one("BGPPeer", 3)}, -1, 60, false, 0},
		{"one of another kind is no burst, but two changes", "", []deletion{one("BGPPeer", 0), one("IPPool", 3)}, -1, 60, false, 0},
		{"the first was accepted, the second is too close", "", []deletion{one("BGPPeer", 0), one("BGPPeer", 3)}, 1, 60, false, 0},
		{"the first was accepted long before", "", []deletion{one("BGPPeer", 0), one("BGPPeer", 30)}, 1, 60, true, 0},
		{"close to one that another kind followed", "", []deletion{one("BGPPeer", 0), one("BGPPeer", 9), one("Secret a", 12)}, 1, 60, false, 0},
		{"several at once", "", []deletion{{kind: "IPPool", names: []string{"a", "b"}, at: at(0), seen: true}}, -1, 60, false, 0},
		{"vanished from a list", "", []deletion{{kind: "IPPool", names: []string{"a"}, at: at(0)}}, -1, 60, false, 0},
		{"the base of all", "", []deletion{one("OnlinkConfig", 0)}, -1, 60, false, 0},
		{"accepted", "", []deletion{one("BGPPeer", 0)}, 1, 60, false, 0},
		{"after the rendering", "", []deletion{one("BGPPeer", 70)}, -1, 90, false, 0},
		{"what removes nothing", "", []deletion{one("Namespace", 0)}, -1, 60, false, 0},
		{"an advertisement removes no session", "", []deletion{one("ServiceAdvertisement", 0)}, -1, 60, false, 0},
		{"beside what removes nothing", "", []deletion{one("Service", 0), one("BGPPeer", 0), one("Namespace", 1)}, -1, 60, true, 0},
		{"beside what vanished", "", []deletion{one("BGPPeer", 0), {kind: "Namespace", names: []string{"a"}, at: at(1)}}, -1, 60, false, 0},
		{"a Service, then its endpoints", changeServices, []deletion{one("Service", 0), one("EndpointSlice", 1)}, -1, 60, true, 0},
		{"a peer takes no address", changeServices, []deletion{one("BGPPeer", 0)}, -1, 60, false, 0},
		{"an advertisement", changeServices, []deletion{one("ServiceAdvertisement", 0)}, -1, 60, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			what := cmp.Or(c.what, changeConfig)
			d := newDeletions()
			for _, gone := range c.gone {
				d.add(gone)
				if c.accepted >= 0 && !gone.at.After(at(c.accepted)) {
					d.accepted(what, at(c.accepted))
				}
			}
			ok, wait := false, time.Duration(0)
			if cause := d.cause(what, at(60)); cause != nil {
				ok, wait = d.byPerson(cause, at(c.now))
			}
			if ok != c.ok || wait != c.wait {
				t.Errorf("it is a person's: %v, %s; want %v, %s", ok, wait, c.ok, c.wait)
			}
		})
	}
}

// TestDeletionsBounded: while a change is held, deletions go on.
func TestDeletionsBounded(t *testing.T) {
	t.Parallel()
	d, now := newDeletions(), time.Now()
	for i := range 1000 {
		d.add(deletion{kind: "Service", names: []string{"a", "b", "c"}, at: now.Add(time.Duration(i) * time.Second), seen: i%2 == 0})
	}
	if n := len(d.pending[changeServices]); n != 1 || len(d.pending[changeServices]["Service"].names) > 2 || len(d.recent) > 31 {
		t.Errorf("%d kinds wait, with %d names, and %d are recent", n, len(d.pending[changeServices]["Service"].names), len(d.recent))
	}
	if !d.unseen("Service") {
		t.Error("what vanished is forgotten")
	}
}

func TestDeletionsUnseen(t *testing.T) {
	t.Parallel()
	d, now := newDeletions(), time.Now()
	d.add(deletion{kind: "Service", names: []string{"a/b"}, at: now, seen: true})
	if d.unseen("Service") {
		t.Error("a deletion that was seen is unseen")
	}
	d.add(deletion{kind: "Service", names: []string{"a/c"}, at: now})
	if !d.unseen("Service") || d.unseen("EndpointSlice") {
		t.Error("an object that vanished from a list is not unseen, or one of another kind is")
	}
	d.accepted(changeServices, now)
	if d.unseen("Service") {
		t.Error("what was accepted is unseen")
	}
}

func TestDeletionsAlarming(t *testing.T) {
	t.Parallel()
	all := func(kind string, seen bool) deletion {
		return deletion{kind: kind, names: []string{"a"}, at: time.Now(), seen: seen, emptied: true}
	}
	some := func(kind string) deletion { return deletion{kind: kind, names: []string{"a"}, at: time.Now()} }
	for _, c := range []struct {
		name     string
		gone     []deletion
		want     bool
		vanished []string
	}{
		{"nothing", nil, false, nil},
		{"the last of a kind, by a person", []deletion{all("BGPPeer", true)}, false, nil},
		{"the last of two kinds", []deletion{all("BGPPeer", true), all("IPPool", true)}, true, nil},
		{"the last of one kind twice", []deletion{all("BGPPeer", true), all("BGPPeer", true)}, false, nil},
		{"the last Service beside the last peer", []deletion{all("BGPPeer", true), all("Service", true)}, false, nil},
		{"an empty list", []deletion{all("Service", false)}, true, nil},
		{"lists without some", []deletion{some("BGPPeer"), some("IPPool")}, false, nil},
		{"the last of a kind, by a person, still in force", []deletion{all("BGPPeer", true)}, false, []string{"BGPPeer"}},
		{"gone before this process began", nil, true, []string{"BGPPeer"}},
		{"gone before, beside one that was seen", []deletion{all("BGPPeer", true)}, true, []string{"BGPPeer", "IPPool"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDeletions()
			for _, gone := range c.gone {
				d.add(gone)
			}
			if got := d.alarming(changeConfig, c.vanished); got != c.want {
				t.Errorf("got %v", got)
			}
			d.accepted(changeConfig, time.Now())
			if d.alarming(changeConfig, nil) {
				t.Error("it is an alarm after it was accepted")
			}
		})
	}
}
