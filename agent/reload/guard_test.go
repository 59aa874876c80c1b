package reload

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"onlink/agent/config"
	"onlink/agent/hold"
)

// peersAt is a configuration with peers of our AS at 10.0.0.N.
func peersAt(hosts ...int) string {
	var list []string
	for _, h := range hosts {
		list = append(list, fmt.Sprintf("{address: 10.0.0.%d}", h))
	}
	return "bgp: {peers: [" + strings.Join(list, ", ") + "]}\n"
}

// TestRemovals: what is so much that the source of a change may have failed, and
// what is not.
func TestRemovals(t *testing.T) {
	t.Parallel()
	const (
		tor    = "bgp: {peers: [{address: 10.0.0.1}, {address: 10.0.0.2}, {name: tor, address: 10.1.0.1, asn: 65001}]}"
		torOne = "bgp: {peers: [{name: tor, address: 10.1.0.1, asn: 65001}]}"
	)
	pools := func(names ...string) string {
		var list []string
		for _, n := range names {
			list = append(list, fmt.Sprintf("{name: p%s, cidr: 10.%s.0.0/16}", n, n))
		}
		return "pools: [" + strings.Join(list, ", ") + "]"
	}
	for _, c := range []struct {
		name, last, next string
		inUse            string // a pool
		want             string // in the reason; "": not held
	}{
		{"nothing", peersAt(1, 2, 3), peersAt(1, 2, 3), "", ""},
		{"one of three peers", peersAt(1, 2, 3), peersAt(1, 2), "", ""},
		{"one of two peers", peersAt(1, 2), peersAt(1), "", ""},
		{"two of six peers: a third and no more", peersAt(1, 2, 3, 4, 5, 6), peersAt(1, 2, 3, 4), "", ""},
		{"two of five peers", peersAt(1, 2, 3, 4, 5), peersAt(1, 2, 3), "", "2 of 5 peers (10.0.0.4, 10.0.0.5)"},
		{"replaced by others", peersAt(1, 2, 3), peersAt(4, 5, 6), "", "3 of 3 peers"},
		{"one replaced by another", peersAt(1), peersAt(2), "", ""},
		{"renamed", "bgp: {peers: [{address: 10.0.0.1}, {address: 10.0.0.2}]}", "bgp: {peers: [{name: x, address: 10.0.0.1}, {name: y, address: 10.0.0.2}]}", "", ""},
		{"the only peer", peersAt(1), "bgp: {}", "", "every session (10.0.0.1)"},
		{"many peers", peersAt(1, 2, 3, 4, 5, 6, 7), "bgp: {}", "", "every session (10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5 and 2 more)"},
		{"the reflectors", tor, torOne, "", "all reflectors and other nodes of our AS (10.0.0.1, 10.0.0.2)"},
		{"a peer of another AS", tor, peersAt(1, 2), "", ""},
		{"on a link", "bgp: {peers: [{name: leaf, interface: eth1, asn: 65001}]}", "bgp: {}", "", "every session (eth1)"},
		{
			"nodes of a mesh", "bgp: {mesh: {nodes: [10.0.0.9, 10.0.0.1, 10.0.0.2, 10.0.0.3]}}", "bgp: {mesh: {nodes: [10.0.0.9, 10.0.0.1]}}", "",
			"2 of 3 peers",
		},
		{"clients", "bgp: {reflector: {clients: [10.7.0.0/24, 10.7.1.0/24]}}", "bgp: {reflector: {}}", "", "every session (10.7.0.0/24, 10.7.1.0/24)"},
		{
			"clients of a reflector with a peer", "bgp: {peers: [{address: 10.0.0.1}], reflector: {clients: [10.7.0.0/24, 10.7.1.0/24]}}",
			"bgp: {peers: [{address: 10.0.0.1}], reflector: {}}", "", "2 of 2 ranges of clients",
		},
		{
			"clients in a larger range", "bgp: {reflector: {clients: [10.7.0.0/24, 10.7.1.0/24]}}",
			"bgp: {reflector: {clients: [10.7.0.0/16]}}", "", "",
		},
		{"one of two pools", pools("1", "2"), pools("1"), "", ""},
		{"one of two pools, in use", pools("1", "2"), pools("1"), "10.2.0.0/16", "1 of 2 pools (10.2.0.0/16)"},
		{"one of three pools, in use", pools("1", "2", "3"), pools("1", "2"), "10.3.0.0/16", ""},
		{"two of three pools", pools("1", "2", "3"), pools("1"), "", "2 of 3 pools"},
		{"a kept pool in use", pools("1", "2"), pools("1"), "10.1.0.0/16", ""},
		{"peers and pools", peersAt(1) + pools("1", "2"), pools("3"), "", "every session (10.0.0.1), and 2 of 2 pools (10.1.0.0/16, 10.2.0.0/16)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inUse := func(p netip.Prefix) bool { return p.String() == c.inUse }
			got := removals(onNode(t, c.last), onNode(t, c.next), inUse, false).reason
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("removes %q, want %q", got, c.want)
			}
		})
	}
}

// TestRemovalIdentity: what is removed identifies a held change, whatever else of the
// configuration is of this node, or is added.
func TestRemovalIdentity(t *testing.T) {
	t.Parallel()
	const tors = "{name: a, address: 10.1.0.1, asn: 65001}, {name: b, address: 10.1.0.2, asn: 65001}"
	of := func(last, next string) []string {
		return removals(onNode(t, last), onNode(t, next), func(netip.Prefix) bool { return false }, false).all
	}
	mesh := func(other int, peers string) string {
		return fmt.Sprintf("bgp: {mesh: {nodes: [10.0.0.9, 10.0.0.%d]}, peers: [%s]}", other, peers)
	}
	first := of(mesh(1, tors), mesh(1, ""))
	if want := []string{"peer 10.1.0.1", "peer 10.1.0.2"}; !slices.Equal(first, want) {
		t.Errorf("removes %q, want %q", first, want)
	}
	for name, again := range map[string][]string{
		"another node":   of(mesh(2, tors), mesh(2, "")),
		"a peer is new":  of(mesh(1, tors), mesh(1, "{name: c, address: 10.1.0.3, asn: 65001}")),
		"a pool is new":  of(mesh(1, tors), mesh(1, "")+"\npools: [{name: p, cidr: 10.250.0.0/16}]"),
		"in other order": of(mesh(1, "{name: b, address: 10.1.0.2, asn: 65001}, {name: a, address: 10.1.0.1, asn: 65001}"), mesh(1, "")),
	} {
		if name == "a pool is new" { // in place of the default one
			again = slices.DeleteFunc(again, func(s string) bool { return strings.HasPrefix(s, "pool ") })
		}
		if !slices.Equal(again, first) {
			t.Errorf("%s: removes %q, want %q", name, again, first)
		}
	}
	if whole, other := of(mesh(1, tors), "bgp: {}"), of(mesh(2, tors), "bgp: {}"); !slices.Equal(whole, other) || slices.Equal(whole, first) {
		t.Errorf("every session is %q on one node, %q on another", whole, other)
	}
	strict := func(next string) string {
		return removals(onNode(t, mesh(1, tors)), onNode(t, next), func(netip.Prefix) bool { return false }, true).reason
	}
	if got := strict(mesh(1, "{name: a, address: 10.1.0.1, asn: 65001}")); got != "peer 10.1.0.2" {
		t.Errorf("one of three peers, where nothing may go: %q", got)
	}
	if got := strict(mesh(1, tors+", {name: c, address: 10.1.0.3, asn: 65001}")); got != "" {
		t.Errorf("one more peer, where nothing may go: %q", got)
	}
	if one := of(mesh(1, tors), mesh(1, "{name: a, address: 10.1.0.1, asn: 65001}")); slices.Equal(one, first) {
		t.Errorf("one of two peers is %q, as are both", one)
	}
}

// onNode is the configuration of the node 10.0.0.9.
func onNode(t *testing.T, text string) *config.Effective {
	t.Helper()
	file, err := config.Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	e, err := config.Resolve(file, config.Facts{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// guarded is a reloader of a file, and its set of held changes.
func guarded(t *testing.T, text string) (*Reloader, *hold.Changes, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	held := hold.New(slog.New(slog.DiscardHandler))
	var log []string
	return New(Setup{
		Log: slog.New(slog.DiscardHandler), File: &config.File{Path: path}, Parts: recorder(&log, ""), Held: held,
		Facts: func() config.Facts { return config.Facts{} },
	}, effective(t, path, text)), held, path
}

// TestGuard: a change that removes much is held, one and the same as long as it is
// sent, until it is confirmed, or another one is made.
func TestGuard(t *testing.T) {
	t.Parallel()
	four, none := peersAt(1, 2, 3, 4), "bgp: {peers: []}\n"
	r, held, path := guarded(t, four)
	change := func(text string, guard bool) Outcome {
		t.Helper()
		out, err := r.Change(t.Context(), Edit{Guard: guard, Make: to(text)})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	inForce := func(want string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil || string(text) != want || r.Digest() != digestOf([]byte(want)) {
			t.Fatalf("the file is %q (%v), in force the digest %s; want %q", text, err, r.Digest(), want)
		}
	}
	if out, err := r.Change(t.Context(), Edit{Guard: true, DryRun: true, Make: to(none)}); err != nil || out.Held == nil || len(held.List()) != 0 {
		t.Fatalf("dry run: %+v, %v, held %v", out, err, held.List())
	}
	first := change(none, true)
	if first.Held == nil || first.Changed {
		t.Fatalf("a change that removes every session is made: %+v", first)
	}
	inForce(four)
	if again := change(none, true); again.Held == nil || *again.Held != *first.Held {
		t.Errorf("the same text is held as %+v, then as %+v", first.Held, again.Held)
	}
	second := change(peersAt(1, 2), true)
	if list := held.List(); second.Held == nil || len(list) != 1 || list[0] != *second.Held {
		t.Fatalf("another text: %+v, held %v", second.Held, list)
	}
	if _, err := held.Confirm(t.Context(), first.Held.Digest); !errors.Is(err, hold.ErrUnknown) {
		t.Errorf("the replaced change is confirmed: %v", err)
	}
	if _, err := held.Confirm(t.Context(), second.Held.Digest); err != nil {
		t.Fatal(err)
	}
	inForce(peersAt(1, 2))
	if list := held.List(); len(list) != 0 {
		t.Errorf("held after it was made: %v", list)
	}

	change(none, true)
	change(peersAt(1, 2, 3), true) // removes nothing
	inForce(peersAt(1, 2, 3))
	if list := held.List(); len(list) != 0 {
		t.Errorf("held after a harmless change: %v", list)
	}

	stale := change(none, true)
	if err := os.WriteFile(path, []byte(peersAt(1, 2, 3, 9)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Confirm(t.Context(), stale.Held.Digest); !errors.Is(err, ErrStale) {
		t.Errorf("a held change replaces a file that was edited since: %v", err)
	}
	if err := r.Reread(t.Context(), "a test", false); err != nil || len(held.List()) != 0 {
		t.Errorf("%v, held %v: a change of another text", err, held.List())
	}
	inForce(peersAt(1, 2, 3, 9))
	if out := change(none, false); out.Held != nil || !out.Changed {
		t.Errorf("without the guard: %+v", out)
	}
	inForce(none)
}
