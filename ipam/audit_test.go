package ipam

import (
	"errors"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestAudit keeps entries over a restart, the unfinished one too, and not for
// ever.
func TestAudit(t *testing.T) {
	path := dbPath(t)
	s, err := OpenStore(path, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.db.NoSync = true
	at := time.Now()
	begin := func(target string) uint64 {
		t.Helper()
		n, err := s.BeginAudit(AuditEntry{Began: at, Action: "release-node", Target: target, By: "root (uid 0)"})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first, second := begin("one"), begin("two")
	begin("three") // the machine dies in it
	taken := []Block{{CIDR: pfx("10.0.0.0/26")}, {CIDR: pfx("fd00::/122")}}
	if err := errors.Join(s.EndAudit(first, taken, nil), s.EndAudit(second, nil, errors.New("no answer")), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	got, err := s.Audit()
	if err != nil {
		t.Fatal(err)
	}
	want := []AuditEntry{
		{Target: "three"},
		{Target: "two", Done: true, Failed: "no answer"},
		{Target: "one", Done: true, Blocks: []netip.Prefix{pfx("10.0.0.0/26"), pfx("fd00::/122")}},
	}
	for i := range want {
		want[i].Action, want[i].By, want[i].Began = "release-node", "root (uid 0)", time.Unix(0, at.UnixNano())
	}
	if d := cmp.Diff(want, got, cmpNet); d != "" {
		t.Fatalf("audit differs (-want +got):\n%s", d)
	}
	for i := range maxAudit {
		begin(strconv.Itoa(i))
	}
	if got, err = s.Audit(); err != nil || len(got) != maxAudit || got[0].Target != strconv.Itoa(maxAudit-1) || got[maxAudit-1].Target != "0" {
		t.Fatalf("%d entries (%v), want the last %d", len(got), err, maxAudit)
	}
	if err := s.EndAudit(first, nil, nil); err != nil {
		t.Fatalf("end of an entry that is gone: %v", err)
	}
}

// TestAuditDenied: denied calls take a bounded part of the audit, and push no forced
// action out.
func TestAuditDenied(t *testing.T) {
	t.Parallel()
	s := openStore(t, dbPath(t))
	s.db.NoSync = true
	note := func(action, target string) {
		t.Helper()
		n, err := s.BeginAudit(AuditEntry{Began: time.Now(), Action: action, Target: target})
		if err == nil {
			err = s.EndAudit(n, nil, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	note(AuditReleaseNode, "first")
	for i := range maxDenied + 20 {
		note(AuditDenied, strconv.Itoa(i))
	}
	note(AuditTakeOver, "last")
	list, err := s.Audit()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != maxDenied+2 || list[0].Target != "last" || list[len(list)-1].Target != "first" {
		t.Errorf("%d entries from %q to %q", len(list), list[len(list)-1].Target, list[0].Target)
	}
	if got := list[len(list)-2]; got.Action != AuditDenied || got.Target != "20" {
		t.Errorf("the oldest denial is %q, want the oldest ones dropped", got.Target)
	}
}
