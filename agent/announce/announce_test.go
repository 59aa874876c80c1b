package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/hold"
)

// bed is a node with announcements.
type bed struct {
	*Announcements

	t     *testing.T
	dir   string
	boot  string
	facts Facts
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), boot: "first", facts: Facts{
		Pools: prefixes("10.244.0.0/16"), Networks: prefixes("10.57.0.0/24", "fd57::/64", "192.0.2.1/32"), Blocks: prefixes("10.250.1.0/26"),
		Others: prefixes("198.51.100.0/24"), Peers: map[string]bool{"tor1": true, "tor2": true},
		Reaches: func(p netip.Prefix) bool { return p.Addr().Is4() },
	}}
	b.open()
	return b
}

// open starts the node anew, with the file as it is.
func (b *bed) open() {
	b.t.Helper()
	log := slog.New(slog.DiscardHandler)
	a, err := Open(Config{State: b.dir, Boot: b.boot, Held: hold.New(log), Facts: func() Facts { return b.facts }, Log: log})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Announcements = a
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func entries(list ...string) []Entry {
	var out []Entry
	for _, s := range list {
		out = append(out, Entry{Text: s})
	}
	return out
}

// hosts returns the first n /32 prefixes of 203.0.113.0/24.
func hosts(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("203.0.113.%d/32", i))
	}
	return out
}

// replace reports whether the set was held.
func (b *bed) replace(owner string, list ...string) (held bool) {
	b.t.Helper()
	out, err := b.Replace(b.t.Context(), Request{Owner: owner, List: entries(list...)}, false)
	if err != nil {
		b.t.Fatal(err)
	}
	return out.Held != nil
}

// inForce returns the announcements as "OWNER PREFIX", the rejected ones with
// their reason.
func (b *bed) inForce() []string {
	var out []string
	for _, s := range b.Sets() {
		for _, a := range s.Announcements {
			out = append(out, s.Owner+" "+a.Prefix.String())
		}
		for _, a := range s.Withheld {
			out = append(out, s.Owner+" withheld "+a.Prefix.String())
		}
		for _, r := range s.Rejected {
			out = append(out, s.Owner+" "+r.Prefix+": "+r.Reason)
		}
	}
	return out
}

func (b *bed) want(want ...string) {
	b.t.Helper()
	if d := cmp.Diff(want, b.inForce()); d != "" {
		b.t.Errorf("-want +got:\n%s", d)
	}
}

// TestRejected: each kind of a wrong entry is left out with its reason, and the
// others are in force.
func TestRejected(t *testing.T) {
	b := newBed(t)
	b.replace("first", "203.0.113.99/32")
	many := make([]string, maxCommunities+1)
	for i := range many {
		many[i] = fmt.Sprintf("64512:%d", i)
	}
	for _, c := range []struct {
		name string
		Entry
		reason string // its beginning; "": announced
	}{
		{"an address of a service", Entry{Text: "203.0.113.7/32"}, ""},
		{"an aggregate", Entry{Text: "203.0.113.64/26"}, ""},
		{"an address beside a node's", Entry{Text: "192.0.2.2/32"}, ""},
		{"some of the peers", Entry{Text: "203.0.113.7/32", Announcement: Announcement{Peers: []string{"tor1", "gone"}}}, ""},
		{"no prefix", Entry{Text: "web"}, "is no prefix;"},
		{"an address", Entry{Text: "203.0.113.7"}, "is no prefix;"},
		{"host bits", Entry{Text: "203.0.113.7/24"}, "203.0.113.7/24 has host bits set; write 203.0.113.0/24"},
		{"default route", Entry{Text: "0.0.0.0/0"}, "is a default route"},
		{"default route of IPv6", Entry{Text: "::/0"}, "is a default route"},
		{"mapped", Entry{Text: "::ffff:203.0.113.7/128"}, "is an IPv4-mapped prefix"},
		{"loopback", Entry{Text: "127.0.0.1/32"}, "has addresses that no router forwards to"},
		{"multicast", Entry{Text: "ff02::1/128"}, "has addresses that no router forwards to"},
		{"half of the internet", Entry{Text: "128.0.0.0/1"}, "has addresses that no router forwards to"},
		{"inside the pool", Entry{Text: "10.244.7.7/32"}, "overlaps the pool 10.244.0.0/16"},
		{"around the pool", Entry{Text: "10.240.0.0/12"}, "overlaps 10.250.1.0/26, a block"},
		{"a block of no pool", Entry{Text: "10.250.1.7/32"}, "overlaps 10.250.1.0/26, a block"},
		{"inside a network", Entry{Text: "10.57.0.200/32"}, "overlaps 10.57.0.0/24, a network"},
		{"an address of the node", Entry{Text: "192.0.2.1/32"}, "overlaps 192.0.2.1/32, a network, address"},
		{"in bgp.originate", Entry{Text: "198.51.100.0/24"}, "is announced by the configuration already"},
		{"inside bgp.originate", Entry{Text: "198.51.100.7/32"}, ""},
		{"of another owner", Entry{Text: "203.0.113.99/32"}, "first announces it already"},
		{"of no family of the node", Entry{Text: "fd00:96::7/128"}, "this node has no address of its family"},
		{"a community of three", Entry{Text: "203.0.113.7/32", Announcement: Announcement{Communities: []string{"x"}}}, "\"x\""},
		{"too many communities", Entry{Text: "203.0.113.7/32", Announcement: Announcement{Communities: many}}, "has 65 communities"},
		{"an unknown peer", Entry{Text: "203.0.113.7/32", Announcement: Announcement{Peers: []string{"gone"}}}, "no peer has the name gone"},
		{"a peer without a name", Entry{Text: "203.0.113.7/32", Announcement: Announcement{Peers: []string{""}}}, "names a peer without a name"},
		{"a long reason", Entry{Text: "203.0.113.7/32", Announcement: Announcement{Reason: strings.Repeat("x", 300)}}, "has a reason of 300 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := b.Replace(t.Context(), Request{Owner: "services", List: []Entry{{Text: "203.0.113.200/32"}, c.Entry}}, true); err != nil {
				t.Fatal(err)
			}
			s := b.Sets()[1]
			if c.reason == "" {
				if len(s.Announcements) != 2 || len(s.Rejected) != 0 {
					t.Errorf("%+v", s)
				}
				return
			}
			if len(s.Announcements) != 1 || len(s.Rejected) != 1 || s.Rejected[0].Prefix != c.Text || !strings.HasPrefix(s.Rejected[0].Reason, c.reason) {
				t.Errorf("%+v, want the reason %q", s, c.reason)
			}
			if p := b.Problems(); len(p) != 1 || !strings.HasPrefix(p[0], "1 of 2 announcements of services are left out, such as "+c.Text) {
				t.Errorf("problems: %q", p)
			}
		})
	}
}

// TestTwice: of two entries of one prefix the first is in force.
func TestTwice(t *testing.T) {
	b := newBed(t)
	list := entries("203.0.113.7/32", "203.0.113.7/32")
	list[0].Reason = "first"
	if _, err := b.Replace(t.Context(), Request{Owner: "services", List: list}, false); err != nil {
		t.Fatal(err)
	}
	b.want("services 203.0.113.7/32", "services 203.0.113.7/32: the set has it twice; remove one")
	if one, owner, _, ok := b.Of(netip.MustParseAddr("203.0.113.7")); !ok || owner != "services" || one.Reason != "first" {
		t.Errorf("%+v of %s", one, owner)
	}
	if _, _, _, ok := b.Of(netip.MustParseAddr("203.0.113.8")); ok {
		t.Error("an address that is not announced")
	}
}

// TestInvalid: a request that is wrong as a whole changes nothing.
func TestInvalid(t *testing.T) {
	b := newBed(t)
	for i := range MaxOwners {
		b.replace(fmt.Sprintf("o%d", i), hosts(MaxOwners)[i])
	}
	before := b.inForce()
	for name, c := range map[string]struct {
		owner string
		n     int
	}{
		"no owner": {"", 1}, "a space": {"a b", 1}, "a long owner": {strings.Repeat("a", 64), 1},
		"one owner more": {"another", 20}, "too many prefixes": {"o1", MaxPrefixes + 1},
	} {
		list := entries(make([]string, c.n)...)
		for i := range list {
			list[i].Text = netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 1, byte(i >> 8), byte(i)}), 32).String()
		}
		if _, err := b.Replace(t.Context(), Request{Owner: c.owner, List: list}, true); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d := cmp.Diff(before, b.inForce()); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
	b.replace("o1") // its only one: no alarm
	b.replace("another", hosts(20)[19])
	if got := b.inForce(); len(got) != MaxOwners || !slices.Contains(got, "another 203.0.113.19/32") {
		t.Errorf("the place of an owner without announcements: %q", got)
	}
}

// TestGuard holds what an alarm is: not the end of a single service, but more than
// a third of at least two.
func TestGuard(t *testing.T) {
	for _, c := range []struct {
		present, left int
		held          bool
	}{
		{1, 0, false},
		{2, 1, false},
		{2, 0, true},
		{3, 1, true},
		{3, 2, false},
		{6, 4, false},
		{6, 3, true},
		{100, 67, false},
		{100, 66, true},
		{100, 0, true},
	} {
		b := newBed(t)
		b.replace("others", "198.51.100.1/32", "198.51.100.2/32")
		b.replace("services", hosts(c.present)...)
		if held := b.replace("services", hosts(c.left)...); held != c.held {
			t.Errorf("from %d to %d: held %v", c.present, c.left, held)
		}
		want := c.left
		if c.held {
			want = c.present
		}
		if got := len(b.inForce()) - 2; got != want {
			t.Errorf("from %d to %d: %d are in force, want %d", c.present, c.left, got, want)
		}
		if n := len(b.Held.List()); (n == 1) != c.held {
			t.Errorf("from %d to %d: %d held changes", c.present, c.left, n)
		}
	}
}

// TestGuardOfRejected: entries that are rejected do not count as announced.
func TestGuardOfRejected(t *testing.T) {
	b := newBed(t)
	b.replace("services", hosts(4)...)
	if !b.replace("services", "203.0.113.0/32", "203.0.113.1/32", "203.0.113.2/24", "203.0.113.3/24") {
		t.Error("two of four that became wrong were withdrawn")
	}
}

// TestHeld: a held set is applied by its confirmation, replaced by another one, and
// forgotten when one comes that is no alarm.
func TestHeld(t *testing.T) {
	b := newBed(t)
	b.replace("services", hosts(6)...)
	b.replace("services", hosts(1)...)
	first := b.Held.List()[0]
	if first.What != "announce services" || first.Reason != "5 of 6 announcements (203.0.113.1/32, 203.0.113.2/32, 203.0.113.3/32, ...)" {
		t.Errorf("%+v", first)
	}
	b.replace("services", hosts(2)...)
	if l := b.Held.List(); len(l) != 1 || l[0].Digest == first.Digest {
		t.Errorf("another set: %+v", l)
	}
	b.replace("services", hosts(7)...)
	if l := b.Held.List(); len(l) != 0 || len(b.inForce()) != 7 {
		t.Errorf("still held: %+v", l)
	}
	if out, err := b.ReplaceKeeping(t.Context(), Request{Owner: "services", List: entries(hosts(6)...)}); err != nil || out.Held == nil || len(b.inForce()) != 7 {
		t.Errorf("one withdrawal, where nothing may go: %+v, %v", out, err)
	}
	if out, err := b.ReplaceKeeping(t.Context(), Request{Owner: "services", List: entries(hosts(7)...)}); err != nil || out.Held != nil || len(b.Held.List()) != 0 {
		t.Errorf("no withdrawal: %+v, %v", out, err)
	}
	b.replace("services")
	if _, err := b.Held.Confirm(t.Context(), first.Digest); !errors.Is(err, hold.ErrUnknown) {
		t.Errorf("an old digest: %v", err)
	}
	if _, err := b.Held.Confirm(t.Context(), ""); err != nil {
		t.Error(err)
	}
	b.want()
	if l := b.Held.List(); len(l) != 0 {
		t.Errorf("still held: %+v", l)
	}
	b.open()
	b.want()
}

// TestFacts: what does not fit the node any more is left out, and announced again
// when it does; names of peers that are gone are left out of the lists.
func TestFacts(t *testing.T) {
	b := newBed(t)
	list := entries("203.0.113.7/32", "203.0.113.8/32")
	list[1].Peers = []string{"tor2", "tor1", "tor2"}
	if _, err := b.Replace(t.Context(), Request{Owner: "services", List: list}, false); err != nil {
		t.Fatal(err)
	}
	judge := func(change func(f *Facts)) []Announcement {
		f := b.facts
		change(&f)
		all, _ := b.Judge(f)
		return all
	}
	if all := judge(func(f *Facts) { f.Pools = prefixes("203.0.113.0/29") }); len(all) != 1 || all[0].Prefix != list8 {
		t.Errorf("a pool around one: %+v", all)
	}
	all := judge(func(f *Facts) { f.Peers = map[string]bool{"tor2": true} })
	if len(all) != 2 || !slices.Equal(all[1].Peers, []string{"tor2"}) {
		t.Errorf("one peer is gone: %+v", all)
	}
	if p := b.Problems(); len(p) != 1 || !strings.HasPrefix(p[0], "announcements name peers that do not exist: tor1;") {
		t.Errorf("problems: %q", p)
	}
	if all := judge(func(*Facts) {}); len(all) != 2 || !slices.Equal(all[1].Peers, []string{"tor1", "tor2"}) || len(b.Problems()) != 0 {
		t.Errorf("as before: %+v, %q", all, b.Problems())
	}
}

var list8 = netip.MustParsePrefix("203.0.113.8/32")

// TestRestart: all of a set outlives a restart, what is left out too.
func TestRestart(t *testing.T) {
	b := newBed(t)
	pref, med := uint32(0), uint32(7)
	list := entries("203.0.113.7/32", "web")
	list[0].Announcement = Announcement{
		Communities: []string{"64512:1", "64512:1:2"}, LocalPref: &pref, MED: &med, Peers: []string{"tor1"}, GracefulShutdown: true, Reason: "default/web",
	}
	if _, err := b.Replace(t.Context(), Request{Owner: "services", List: list}, false); err != nil {
		t.Fatal(err)
	}
	b.replace("operator", "203.0.113.8/32")
	before := b.Sets()
	b.open()
	if d := cmp.Diff(before, b.Sets(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
	if p := b.Problems(); len(p) != 1 {
		t.Errorf("problems: %q", p)
	}
}

// TestBoot: a set that does not outlive a boot of the machine is in force after a restart
// of the agent, and withheld after a boot until its owner sends it again. Nothing of it is
// held as a withdrawal: it is not announced.
func TestBoot(t *testing.T) {
	services := func(n int) Request { return Request{Owner: "services", List: entries(hosts(n)...), ThisBoot: true} }
	booted := func(t *testing.T) *bed {
		b := newBed(t)
		if _, err := b.Replace(t.Context(), services(3), false); err != nil {
			t.Fatal(err)
		}
		b.replace("operator", "198.51.100.7/32")
		b.open()
		b.want("services 203.0.113.0/32", "services 203.0.113.1/32", "services 203.0.113.2/32", "operator 198.51.100.7/32")
		b.boot = "second"
		b.open()
		return b
	}
	b := booted(t)
	b.want("services withheld 203.0.113.0/32", "services withheld 203.0.113.1/32", "services withheld 203.0.113.2/32", "operator 198.51.100.7/32")
	if all, _ := b.Judge(b.facts); len(all) != 1 || all[0].Prefix.String() != "198.51.100.7/32" {
		t.Errorf("announced after the boot: %+v", all)
	}
	if one, owner, withheld, ok := b.Of(netip.MustParseAddr("203.0.113.1")); !ok || !withheld || owner != "services" || one.Prefix.String() != "203.0.113.1/32" {
		t.Errorf("%+v of %s, withheld %v, %v", one, owner, withheld, ok)
	}
	if p := b.Problems(); len(p) != 1 || p[0] != "3 announcements of services are withheld, such as 203.0.113.0/32: "+WithheldReason {
		t.Errorf("problems: %q", p)
	}
	b.open() // the agent restarts in the same boot
	if len(b.Sets()[0].Withheld) != 3 {
		t.Errorf("after a restart: %+v", b.Sets())
	}

	again, err := b.Replace(t.Context(), services(3), false) // the same set
	if err != nil || again.Held != nil || len(b.Changed()) != 1 {
		t.Errorf("sent again: %+v, %v, %d signals", again, err, len(b.Changed()))
	}
	b.open()
	b.want("services 203.0.113.0/32", "services 203.0.113.1/32", "services 203.0.113.2/32", "operator 198.51.100.7/32")
	if p := b.Problems(); len(p) != 0 {
		t.Errorf("problems: %q", p)
	}

	for name, replace := range map[string]func(*bed) (Outcome, error){
		"a smaller set": func(b *bed) (Outcome, error) { return b.Replace(t.Context(), services(1), false) },
		"none may go":   func(b *bed) (Outcome, error) { return b.ReplaceKeeping(t.Context(), services(1)) },
	} {
		b := booted(t)
		if out, err := replace(b); err != nil || out.Held != nil {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		b.want("services 203.0.113.0/32", "operator 198.51.100.7/32")
	}

	b = booted(t)
	b.boot = "" // the kernel does not say
	b.open()
	if len(b.inForce()) != 4 || len(b.Sets()[0].Withheld) != 0 {
		t.Errorf("without a boot ID: %q", b.inForce())
	}
}

// TestHeldBoot: a held set is applied as it was sent.
func TestHeldBoot(t *testing.T) {
	b := newBed(t)
	b.replace("services", hosts(6)...)
	if out, err := b.Replace(t.Context(), Request{Owner: "services", List: entries(hosts(1)...), ThisBoot: true}, false); err != nil || out.Held == nil {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, err := b.Held.Confirm(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	b.boot = "second"
	b.open()
	b.want("services withheld 203.0.113.0/32")
}

// TestDamaged: of a damaged file the intact lines are in force, it is kept aside,
// and a problem says so until the owner sends its set again.
func TestDamaged(t *testing.T) {
	b := newBed(t)
	b.replace("services", hosts(5)...)
	path := filepath.Join(b.dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for name, text := range map[string]string{
		"a line":          lines[0] + "x" + lines[1] + lines[2] + lines[3] + lines[4],
		"cut off":         string(whole[:len(whole)-10]),
		"zeros":           lines[0] + lines[1] + lines[2] + lines[3] + strings.Repeat("\x00", len(lines[4])),
		"a default route": lines[0] + lines[1] + lines[2] + lines[3] + strings.Replace(lines[4], "203.0.113.4/32", "0.0.0.0/0", 1),
		"a line twice":    lines[0] + lines[1] + lines[2] + lines[3] + lines[3],
		"an unknown key":  lines[0] + lines[1] + lines[2] + lines[3] + strings.Replace(lines[4], "owner", "owned", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			b.open()
			if got := b.inForce(); len(got) != 4 {
				t.Errorf("in force: %q", got)
			}
			if p := b.Problems(); len(p) != 1 || !strings.HasPrefix(p[0], "1 lines of "+path+" are damaged") {
				t.Errorf("problems: %q", p)
			}
			if aside, err := os.ReadFile(path + ".damaged"); err != nil || string(aside) != text {
				t.Errorf("kept aside: %q, %v", aside, err)
			}
			b.replace("services", hosts(5)...)
			if p := b.Problems(); len(p) != 0 {
				t.Errorf("problems after a new set: %q", p)
			}
			b.open()
			if got := b.inForce(); len(got) != 5 || len(b.Problems()) != 0 {
				t.Errorf("in force: %q, problems %q", got, b.Problems())
			}
		})
	}
}

// TestStateFolder: a set that cannot be kept is not announced.
func TestStateFolder(t *testing.T) {
	b := newBed(t)
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Replace(t.Context(), Request{Owner: "services", List: entries(hosts(1)...)}, false); err == nil || errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	b.want()
}

// TestAwait: a replacement waits until the speaker has it; the same set again does
// not.
func TestAwait(t *testing.T) {
	b := newBed(t)
	out, err := b.Replace(t.Context(), Request{Owner: "services", List: entries(hosts(1)...)}, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Changed()) != 1 {
		t.Error("the flow is not woken")
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Await(short, out.Version); !errors.Is(err, context.Canceled) {
		t.Errorf("before it is sent: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Await(t.Context(), out.Version) }()
	_, version := b.Judge(b.facts)
	b.Sent(version)
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-b.Changed()
	again, err := b.Replace(t.Context(), Request{Owner: "services", List: entries(hosts(1)...)}, false)
	if err != nil || again.Version != out.Version || len(b.Changed()) != 0 {
		t.Errorf("the same set: %+v, %v", again, err)
	}
}
