package monitor

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clipperhouse/displaywidth"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	onlinkv1 "onlink/proto/v1"
)

var update = flag.Bool("update", false, "rewrite the expected frames under testdata")

// noon is when the tests look.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// after is some seconds later.
func after(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// words are texts that show what was passed; troubles counts the sessions that were
// written.
func words(troubles *int) Texts {
	return Texts{
		Age: func(d time.Duration) string { return d.Truncate(time.Second).String() },
		Trouble: func(p *onlinkv1.Peer) string {
			*troubles++
			return p.GetLastError()
		},
		Peer: func(w io.Writer, d *onlinkv1.PeerDetail) error {
			_, err := fmt.Fprintf(w, "Peer:   %s\nUPDATE  %d\n", d.GetPeer().GetAddress(), d.GetReceived().GetUpdate())
			return err
		},
	}
}

func firstStatus() *onlinkv1.Status {
	return &onlinkv1.Status{
		Node: "r1n1", Version: "v0.1.0", Address: "10.57.0.11", Asn: 64512, Reflector: true, InSync: true, Phase: "ready", Drain: "serving",
		Started: timestamppb.New(noon.Add(-time.Hour)), PeersTotal: 4, PeersEstablished: 3, PeersGone: 1,
		RoutesUnicast: 70, RoutesTunnelled: 40, RoutesUnresolved: 1, RoutesFailed: 2, FibDrift: 9,
		Blocks: 2, AddressesUsed: 65, AddressesTotal: 128, Announcements: 3, AnnouncementsWithheld: 2, AnnouncementsRejected: 1, ConfigDigest: "5d41402a",
		Problems: []string{"peer tor1 (10.57.0.1) is Active: hold timer expired; see that the router answers pings, and that its configuration names this node's address", "route 10.9.0.0/16: belongs to bird, for 4s"},
		Notes:    []string{"ipam.registry.insecure: the registry has no TLS"},
		Held:     []*onlinkv1.HeldChange{{What: "config"}},
	}
}

func firstPeers() []*onlinkv1.Peer {
	up := func(name, address string) *onlinkv1.Peer {
		return &onlinkv1.Peer{Name: name, Address: address, Asn: 64512, Role: "ibgp", State: "Established", Since: durationpb.New(time.Hour), PrefixesIn: 12, Accepted: 11, PrefixesOut: 2, EndOfRib: true}
	}
	dynamic := up("clients", "10.57.0.12")
	dynamic.Dynamic = true
	gone := &onlinkv1.Peer{Name: "clients", Address: "10.57.0.13", Asn: 64512, State: "Idle", Dynamic: true, Gone: true, LastError: "received NOTIFICATION: Cease", Since: durationpb.New(time.Minute)}
	down := &onlinkv1.Peer{Name: "tor1", Address: "10.57.0.1", Asn: 4200000001, Role: "ebgp", State: "Active", Since: durationpb.New(9 * time.Second), LastError: "hold timer expired"}
	return []*onlinkv1.Peer{up("rr1", "10.57.0.10"), dynamic, gone, down, up("rr2", "2001:db8::10")}
}

func firstAnswer() Answer {
	return Answer{
		At: noon, Status: firstStatus(), Peers: &onlinkv1.ListPeersReply{Peers: firstPeers()},
		Pools: &onlinkv1.ListPoolsReply{Pools: []*onlinkv1.Pool{
			{Name: "default", Cidr: "10.244.0.0/16", BlockSize: 26, Encapsulation: "CrossSubnet", Tunnel: "ipip", Blocks: 2, Used: 65},
			{Name: "v6", Cidr: "fd00:244::/64", BlockSize: 122, Encapsulation: "Never", Tunnel: "none"},
		}},
		Blocks: &onlinkv1.ListBlocksReply{Blocks: []*onlinkv1.Block{
			{Cidr: "10.244.0.0/26", Pool: "default", Used: 64, Size: 64, Announced: true, Epoch: 3},
			{Cidr: "10.244.0.64/26", Pool: "default", Used: 1, Size: 64, Cooling: 2, Epoch: 4},
			{Cidr: "10.244.9.0/26", Pool: "default", Elsewhere: true},
		}},
	}
}

// scene is a model with a first answer.
type scene struct {
	*Model
	t        *testing.T
	troubles int
}

func start(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t}
	s.Model = New(words(&s.troubles))
	s.Take(firstAnswer())
	return s
}

func (s *scene) press(keys ...string) {
	for _, k := range keys {
		s.Press(k)
	}
}

// shows fails the test when a text is not on the screen.
func (s *scene) shows(now time.Time, texts ...string) {
	s.t.Helper()
	screen := s.Frame(80, 24, now).String()
	for _, text := range texts {
		if !strings.Contains(screen, text) {
			s.t.Errorf("no %q in\n%s", text, screen)
		}
	}
}

// lacks fails the test when a text is on the screen.
func (s *scene) lacks(now time.Time, texts ...string) {
	s.t.Helper()
	screen := s.Frame(80, 24, now).String()
	for _, text := range texts {
		if strings.Contains(screen, text) {
			s.t.Errorf("%q in\n%s", text, screen)
		}
	}
}

// golden compares a frame with its file, and checks that it has the size.
func (s *scene) golden(name string, width, height int, now time.Time) {
	s.t.Helper()
	f := s.Frame(width, height, now)
	if len(f) != height {
		s.t.Errorf("%s: %d lines, want %d", name, len(f), height)
	}
	for i, l := range f {
		if w := displaywidth.String(l.Text); w > width {
			s.t.Errorf("%s: line %d has %d columns, want at most %d: %s", name, i, w, width, l.Text)
		}
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(f.String()), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), f.String()); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		keys []string
	}{
		{"overview", nil},
		{"peer", []string{KeyDown, KeyDown, KeyEnter}},
		{"problem", []string{KeyTab, KeyEnter}},
		{"pool", []string{KeyTab, KeyTab, KeyEnter}},
		{"events", []string{KeyBacktab}},
		{"help", []string{"?"}},
		{"filter", []string{"/", "t", "o", "r"}},
	}
	for _, tt := range tests {
		for _, size := range []struct{ width, height int }{{80, 24}, {160, 50}} {
			t.Run(fmt.Sprintf("%s_%dx%d", tt.name, size.width, size.height), func(t *testing.T) {
				t.Parallel()
				s := start(t)
				detail := &onlinkv1.PeerDetail{Peer: firstPeers()[0], Received: &onlinkv1.PeerMessages{Update: 7}}
				s.Take(Answer{At: noon, Detail: detail})
				later := proto.CloneOf(detail)
				later.Received.Update = 17
				s.Take(Answer{At: after(2), Detail: later})
				is := firstStatus()
				is.Drain, is.RoutesUnicast, is.Problems = "drained", 75, is.Problems[:1]
				s.Take(Answer{At: after(3), Status: is})
				s.press(tt.keys...)
				s.golden(strings.ReplaceAll(t.Name(), "TestFrames/", ""), size.width, size.height, after(4))
			})
		}
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	s := &scene{t: t}
	s.Model = New(words(&s.troubles))
	s.golden("waiting", 80, 24, noon)
	s.press(KeyTab, KeyEnter, KeyDown, KeyEnd, "/", "x", KeyEnter, KeyEnter) // nothing to open
	s.shows(noon, "waiting for its first answer", `SESSIONS`)
}

func TestSmall(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, size := range []struct{ width, height int }{{59, 24}, {80, 16}, {20, 3}, {1, 1}, {0, 0}} {
		f := s.Frame(size.width, size.height, noon)
		if len(f) > size.height {
			t.Errorf("%dx%d: %d lines", size.width, size.height, len(f))
		}
		if size.width >= LeastWidth || size.width > 40 {
			if want := fmt.Sprintf("The terminal is %dx%d", size.width, size.height); !strings.Contains(f.String(), want) {
				t.Errorf("%dx%d: no %q in %q", size.width, size.height, want, f.String())
			}
		}
	}
	s.golden("least", LeastWidth, LeastHeight, noon)
}

// TestKeys: keys move the cursor, which stays on its row when the list changes.
func TestKeys(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		keys []string
		want string // on the cursor's line
	}{
		{"the sessions that are down come first", nil, "> tor1"},
		{"down", []string{KeyDown, "j"}, "> rr1"},
		{"up", []string{"j", "j", "k", KeyUp}, "> tor1"},
		{"not beyond the end", []string{"j", "j", "j", "j", "j", "j", "j"}, "> rr2"},
		{"not before the beginning", []string{KeyUp, "k"}, "> tor1"},
		{"end and home", []string{"G", "g"}, "> tor1"},
		{"end", []string{KeyEnd}, "> rr2"},
		{"page", []string{KeyPgDn, KeyPgUp, KeyPgDn}, "> rr2"},
		{"the next pane", []string{KeyTab}, "> peer tor1"},
		{"the last pane of four", []string{KeyTab, KeyTab, KeyTab, KeyTab, KeyTab, "j"}, "> route 10.9"},
		{"the one before", []string{KeyBacktab, KeyBacktab}, "> default"},
		{"an unknown key", []string{"", "x", "Left"}, "> tor1"},
		{"back at the overview", []string{KeyEsc, KeyBackspace}, "> tor1"},
		{"open and back", []string{"j", KeyEnter, "j", KeyEsc}, "> 10.57.0.13*"},
		{"help, help again", []string{"?", "j", "?"}, "> tor1"},
		{"help over a page", []string{"j", KeyEnter, "?", KeyBackspace, KeyBackspace}, "> 10.57.0.13*"},
		{"filter", []string{"/", "r", "r", KeyEnter, "j"}, "> rr2"},
		{"a filter ended while typed", []string{"/", "r", "r", KeyEsc}, "> tor1"},
		{"a filter edited", []string{"/", "é", "x", KeyBackspace, KeyBackspace, "R", "R", "2", KeyEnter}, "> rr2"},
		{"a filter without a match", []string{"/", "n", "o", "n", "e", KeyEnter, KeyEnter, "j", KeyEsc}, "> tor1"},
		{"q is a letter of a filter", []string{"/", "q", KeyBackspace, KeyEnter}, "> tor1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Frame(80, 24, noon) // the height of a page
			s.press(tt.keys...)
			var got []string
			for _, l := range s.Frame(80, 24, noon) {
				if l.Selected {
					got = append(got, l.Text)
				}
			}
			if len(got) != 1 || !strings.HasPrefix(got[0], tt.want) {
				t.Errorf("the cursor is on %q, want %q", got, tt.want)
			}
			if s.Quit() {
				t.Error("it quit")
			}
		})
	}
	for _, keys := range [][]string{{"q"}, {KeyCtrlC}, {"/", "q", KeyCtrlC}, {"?", "q"}} {
		s := start(t)
		s.press(keys...)
		if !s.Quit() {
			t.Errorf("%q: it did not quit", keys)
		}
	}
}

// TestCursorStays: the row of the cursor keeps it while others come and go; when it goes
// itself, the cursor takes the one in its place.
func TestCursorStays(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.press("j", "j") // rr1
	list := firstPeers()
	list[1].State, list[4].State = "Idle", "Idle" // two move to the front
	s.Take(Answer{At: after(2), Peers: &onlinkv1.ListPeersReply{Peers: list}})
	s.shows(after(2), "> rr1")
	s.Take(Answer{At: after(4), Peers: &onlinkv1.ListPeersReply{Peers: list[1:]}})
	s.shows(after(4), "> 10.57.0.13*", "session rr1 (10.57.0.10) is no longer listed")
	s.Take(Answer{At: after(6), Peers: &onlinkv1.ListPeersReply{}})
	s.press(KeyEnter) // nothing to open
	s.lacks(after(6), "> ")
}

// TestEvents: what differs between two answers is an event, and nothing else is.
func TestEvents(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status func(*onlinkv1.Status)
		peers  func([]*onlinkv1.Peer) []*onlinkv1.Peer
		want   []string // the oldest first
	}{
		{name: "nothing"},
		{name: "an age in a problem", status: func(s *onlinkv1.Status) { s.Problems[1] = "route 10.9.0.0/16: belongs to bird, for 1m6s" }},
		{
			name: "drain, phase, configuration, start",
			status: func(s *onlinkv1.Status) {
				s.Drain, s.Phase, s.ConfigDigest, s.Version, s.Started = "leaving", "syncing", "77", "v0.2.0", timestamppb.New(after(1))
			},
			want: []string{"the agent was started again, version v0.2.0", "the agent is syncing, was ready", "the node is leaving, was serving", "another configuration is in force, digest 77"},
		},
		{
			name:   "problems",
			status: func(s *onlinkv1.Status) { s.Problems = []string{s.Problems[1], "disk: 95% full"} },
			want:   []string{"problem: disk: 95% full", "problem ended: peer tor1 (10.57.0.1) is Active: hold timer expired; see that the router answers pings, and that its configuration names this node's address"},
		},
		{
			name:   "counts",
			status: func(s *onlinkv1.Status) { s.RoutesUnicast, s.FibDrift, s.AnnouncementsWithheld = 71, 12, 0 },
			want:   []string{"routes desired: 71, was 70", "routes repaired: 12, was 9", "announcements withheld: 0, was 2"},
		},
		{
			name: "sessions",
			peers: func(l []*onlinkv1.Peer) []*onlinkv1.Peer {
				l[0].State, l[0].LastError = "Idle", "hold timer expired"
				l[1].Flaps, l[1].LastError = 2, "reset by peer"
				l[3].State = "Established"
				fresh := proto.CloneOf(l[0])
				fresh.Name, fresh.Address, fresh.State, fresh.LastError = "", "10.57.0.77", "Active", ""
				return append(l[:4], fresh)
			},
			want: []string{
				"session rr1 (10.57.0.10) went down: hold timer expired", "session 10.57.0.12* went down and came up again: reset by peer",
				"session tor1 (10.57.0.1) came up", "session 10.57.0.77 is new, in state Active", "session rr2 (2001:db8::10) is no longer listed",
			},
		},
		{
			name:  "a state between states",
			peers: func(l []*onlinkv1.Peer) []*onlinkv1.Peer { l[3].State = "OpenSent"; return l },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			status, list := firstStatus(), firstPeers()
			if tt.status != nil {
				tt.status(status)
			}
			if tt.peers != nil {
				list = tt.peers(list)
			}
			s.Take(Answer{At: after(2), Status: status, Peers: &onlinkv1.ListPeersReply{Peers: list}})
			var got []string
			for _, e := range s.board.events.list {
				got = append(got, e.text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestShape(t *testing.T) {
	t.Parallel()
	for _, pair := range []struct {
		a, b string
		same bool
	}{
		{"the certificate expires in 30 days", "the certificate expires in 29 days", true},
		{"down for 2d3h, since 4m5s", "down for 2d4h, since 59s", true},
		{"block 10.244.0.0/26: is ours", "block 10.244.0.64/26: is ours", false},
		{"peer 10.57.0.1 is down", "peer 10.57.0.2 is down", false},
		{"peer fd57:1::1 is down", "peer fd57:2::1 is down", false},
		{"peer a1 is down", "peer a2 is down", false},
	} {
		if got := shape(pair.a) == shape(pair.b); got != pair.same {
			t.Errorf("%q and %q: the same: %t, want %t", pair.a, pair.b, got, pair.same)
		}
	}
}

// TestHistory: it is bounded, and changes of one count in a short time are one event.
func TestHistory(t *testing.T) {
	t.Parallel()
	var h history
	for i := range uint64(20) {
		h.add(after(int(i)), event{count: "routes", from: i, to: i + 1})
		h.add(after(int(i)), event{count: "blocks", from: 2 * i, to: 2*i + 2})
	}
	if len(h.list) != 2 || h.newest(0).text != "blocks: 40, was 0" || h.newest(1).text != "routes: 20, was 0" {
		t.Errorf("events %+v", h.list)
	}
	h.add(after(1000), event{count: "routes", from: 20, to: 21})
	if len(h.list) != 3 || h.newest(0).text != "routes: 21, was 20" {
		t.Errorf("after a long time: %+v", h.list)
	}
	for i := range 3 * keptEvents {
		h.add(after(2000), event{text: strconv.Itoa(i)})
	}
	if len(h.list) != keptEvents || h.newest(0).text != strconv.Itoa(3*keptEvents-1) {
		t.Errorf("%d events, the newest %q", len(h.list), h.newest(0).text)
	}
}

// TestLostAndBack: without the agent the last data stays with its age, and an outage is
// one event however many attempts fail.
func TestLostAndBack(t *testing.T) {
	t.Parallel()
	s := start(t)
	gone := errors.New("the agent is not running: no process listens on /run/onlink/admin.sock")
	s.Take(Answer{At: after(10), Failed: gone, Again: after(11)})
	s.Take(Answer{At: after(11), Failed: gone, Again: after(14)})
	s.golden("lost", 80, 24, after(12))
	s.shows(after(12), "Agent   no answer for 2s, data 12s old, next attempt in 3s", "the agent is not running: no process listens", "rr1", "68/70 installed")
	s.shows(after(15), "connecting now")
	for _, l := range s.Frame(80, 24, after(12)) {
		if l.Tone == Good {
			t.Errorf("a line that may be wrong by now looks good: %s", l.Text)
		}
	}
	is := firstStatus()
	is.Started = timestamppb.New(after(15))
	s.Take(Answer{At: after(16), Status: is})
	s.shows(after(17), "Agent   live, data 1s old", "the agent answers again, after 6s", "the agent was started again")
	if n := len(s.board.events.list); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

// TestPause: the screen stays, and what came meanwhile is taken at the end, the status
// too, which the agent does not send again.
func TestPause(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.press("p")
	is := firstStatus()
	is.Drain = "drained"
	s.Take(Answer{At: after(2), Status: is})
	list := firstPeers()
	list[0].State = "Idle"
	s.Take(Answer{At: after(4), Peers: &onlinkv1.ListPeersReply{Peers: list}})
	s.shows(after(5), "Agent   paused, data 5s old", "in sync, serving")
	s.lacks(after(5), "went down")
	s.Take(Answer{At: after(6), Failed: errors.New("gone"), Again: after(9)})
	s.shows(after(6), "Agent   no answer")
	s.Take(Answer{At: after(7), Pools: &onlinkv1.ListPoolsReply{}})
	s.shows(after(7), "Agent   paused, data 7s old", "the agent answers again, after 1s", "in sync, serving", "default")
	s.press("p")
	s.shows(after(7), "in sync, drained", "0 pools", "session rr1 (10.57.0.10) went down", "the node is drained")
	s.press("p", "p") // nothing came
	s.shows(after(7), "Agent   live")

	// A pause that ends without the agent takes what came before, and it stays lost.
	s.press("p")
	s.Take(Answer{At: after(8), Status: firstStatus()})
	s.Take(Answer{At: after(9), Failed: errors.New("gone"), Again: after(19)})
	s.press("p")
	s.shows(after(10), "Agent   no answer for 1s, data 2s old, next attempt", "in sync, serving")
}

// TestRates: changes of routes and UPDATE messages a second.
func TestRates(t *testing.T) {
	t.Parallel()
	s := start(t)
	for i, n := range []uint32{80, 70, 100} {
		is := firstStatus()
		is.RoutesUnicast = n
		s.Take(Answer{At: after(i + 1), Status: is})
	}
	s.shows(after(3), "5.0/s") // 10 + 10 + 30 in 10 seconds
	s.shows(after(12), "4.0/s")
	s.shows(after(14), "0.0/s")

	rate := func(now time.Time) string {
		for _, l := range s.Frame(160, 50, now) {
			if strings.Contains(l.Text, "rr1 ") {
				return strings.Fields(l.Text)[6]
			}
		}
		return ""
	}
	ask := func(at time.Time, updates uint64) {
		s.Take(Answer{At: at, Detail: &onlinkv1.PeerDetail{Peer: firstPeers()[0], Received: &onlinkv1.PeerMessages{Update: updates}}})
	}
	ask(after(0), 100)
	if got := rate(after(0)); got != "-" {
		t.Errorf("after one answer: %s", got)
	}
	ask(after(4), 110)
	if got := rate(after(4)); got != "2.5" {
		t.Errorf("10 messages in 4 s: %s", got)
	}
	if got := rate(after(30)); got != "-" {
		t.Errorf("a session that is no longer asked for: %s", got)
	}
	ask(after(8), 3) // the agent was started again
	if got := rate(after(8)); got != "-" {
		t.Errorf("a counter that began anew: %s", got)
	}
}

// TestWants: details are wanted of the sessions on the screen, the cursor's first, or of
// the open one alone.
func TestWants(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Frame(80, 24, noon)
	s.press("j")
	if diff := cmp.Diff([]string{"10.57.0.13", "10.57.0.1", "10.57.0.10", "10.57.0.12", "2001:db8::10"}, s.Wants()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.press(KeyEnter, "?")
	if diff := cmp.Diff([]string{"10.57.0.13"}, s.Wants()); diff != "" {
		t.Errorf("of an open session (-want +got):\n%s", diff)
	}
	s.Take(Answer{At: after(2), Peers: &onlinkv1.ListPeersReply{Peers: firstPeers()[:2]}})
	s.press("?")
	s.shows(after(2), "The agent does not list this session any longer")
}

// TestManySessions: with 5,000 sessions a frame writes those on the screen alone, and
// all of them going down is a bounded number of events.
func TestManySessions(t *testing.T) {
	t.Parallel()
	const sessions = 5000
	s := start(t)
	many := func(state string) *onlinkv1.ListPeersReply {
		r := &onlinkv1.ListPeersReply{}
		for i := range sessions {
			r.Peers = append(r.Peers, &onlinkv1.Peer{Name: fmt.Sprintf("n%04d", i), Address: fmt.Sprintf("10.60.%d.%d", i/250, i%250), State: state, EndOfRib: true})
		}
		return r
	}
	s.Take(Answer{At: after(2), Peers: many("Established")})
	s.press("/", "n", "4", "9", KeyEnter, "G")
	s.shows(after(2), "of 100", "> n4999")
	s.press(KeyEsc, KeyEnd)
	for _, size := range []struct{ width, height int }{{80, 24}, {160, 50}} {
		s.troubles = 0
		s.Frame(size.width, size.height, after(2))
		if s.troubles > size.height {
			t.Errorf("%dx%d: a frame wrote %d sessions", size.width, size.height, s.troubles)
		}
		if n := len(s.Wants()); n > size.height {
			t.Errorf("%dx%d: details of %d sessions are wanted", size.width, size.height, n)
		}
	}
	before := len(s.board.events.list)
	s.Take(Answer{At: after(4), Peers: many("Idle")})
	if n := len(s.board.events.list) - before; n != namedEvents+1 {
		t.Errorf("%d events, want %d", n, namedEvents+1)
	}
	if got, want := s.board.events.newest(0).text, fmt.Sprintf("%d more sessions changed and are down", sessions-namedEvents); got != want {
		t.Errorf("the last event is %q, want %q", got, want)
	}
}
