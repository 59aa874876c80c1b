package glass

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/state"
	"onlink/bgp"
	"onlink/bgp/bfd"
)

var since = time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)

// snapshot is an agent with a ToR, a reflector and a peer that is not configured.
func snapshot() *state.Snapshot {
	return &state.Snapshot{
		Node: state.Node{Name: "r1n1", Version: "v1", Address: ip("10.57.1.11"), ASN: 64512, RouterID: ip("10.57.1.11"), Started: since},
		Sessions: state.Sessions{Peers: []state.Peer{
			peer(bgp.PeerStatus{Name: "r1tor1", Address: ip("10.57.1.1"), ASN: 65101, Role: bgp.EBGP, State: state.Established, Since: since, Received: 3, Accepted: 1, Advertised: 2, Seen: true}),
			{PeerStatus: bgp.PeerStatus{Name: "rr1", Address: ip("10.57.1.10"), ASN: 64512, State: state.Established, Since: since, Received: 7, Accepted: 7, Advertised: -1, Seen: true}, BFD: &bfd.Status{State: bfd.Up}},
			peer(bgp.PeerStatus{Name: "", Address: ip("192.0.2.1"), State: "Idle", Stranger: true, Speaks: true, Gone: true, LastError: "refused: no such peer"}),
		}},
	}
}

// lost is snapshot with the session to the ToR down.
func lost(why string) *state.Snapshot {
	s := snapshot()
	p := &s.Sessions.Peers[0]
	p.State, p.Since, p.LastError, p.ErrorAt = "Active", since.Add(time.Hour), why, since.Add(time.Hour)
	return s
}

// TestLive: a page receives the present state, then what differs alone, and the changes
// of sessions with their reason.
func TestLive(t *testing.T) {
	b := &bed{}
	b.put(snapshot())
	s := b.serve(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	events := s.follow(ctx, "")
	var first statusView
	next(t, events, "status", &first)
	if first.Node != "r1n1" || first.Sessions != 2 || first.Established != 2 || !first.Started.Equal(since) {
		t.Errorf("the first status: %+v", first)
	}
	var table sessionsView
	next(t, events, "sessions", &table)
	when := since
	want := sessionsView{Found: 3, All: 3, Rows: []sessionRow{
		{Name: "r1tor1", Address: "10.57.1.1", ASN: 65101, Role: "ebgp", State: "Established", Up: true, Since: &when, Received: 3, Accepted: 1, Advertised: 2},
		{Name: "rr1", Address: "10.57.1.10", ASN: 64512, Role: "ibgp", State: "Established", Up: true, Since: &when, Received: 7, Accepted: 7, Advertised: -1, BFD: "Up"},
		{Address: "192.0.2.1", Role: "not configured", State: "Idle", LastError: "refused: no such peer", Gone: true, Problem: "connections from 192.0.2.1 are refused: no such peer"},
	}}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("sessions (-want +got):\n%s", diff)
	}
	var drawn topologyView
	next(t, events, "topology", &drawn)

	// The same again is no event: the next one is the loss.
	b.put(snapshot())
	b.put(lost("hold timer expired"))
	e := <-events
	if e.name != "status" {
		t.Errorf("the event after the loss is %s %s", e.name, e.data)
	}
	next(t, events, "sessions", &table)
	if r := table.Rows[0]; r.Name != "r1tor1" || r.State != "Active" || r.Up || r.LastError != "hold timer expired" {
		t.Errorf("after the loss the first row is %+v", r)
	}
	var changed changesView
	next(t, events, "changes", &changed)
	if diff := cmp.Diff(changesView{Changes: []change{
		{At: since.Add(time.Hour), Name: "r1tor1", Address: "10.57.1.1", From: "Established", To: "Active", Why: "hold timer expired"},
	}}, changed); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestChanges: what counts as a change between two snapshots.
func TestChanges(t *testing.T) {
	with := func(edit func(*state.Snapshot)) *state.Snapshot {
		s := snapshot()
		s.Taken = since.Add(2 * time.Hour)
		edit(s)
		return s
	}
	for _, c := range []struct {
		name       string
		last, next *state.Snapshot
		want       []string
	}{
		{"the first", nil, snapshot(), nil},
		{"nothing", snapshot(), with(func(*state.Snapshot) {}), nil},
		{"lost", snapshot(), lost("why"), []string{"r1tor1 Established -> Active why"}},
		{"up again", lost("why"), snapshot(), []string{"r1tor1 Active -> Established "}},
		{"another attempt", lost("why"), with(func(s *state.Snapshot) {
			*s = *lost("connection refused")
			s.Sessions.Peers[0].State = "Connect"
		}), nil},
		{"lost and up between the two", snapshot(), with(func(s *state.Snapshot) {
			s.Sessions.Peers[0].Since, s.Sessions.Peers[0].LastError = since.Add(time.Minute), "reset"
		}), []string{"r1tor1 Established -> Established reset"}},
		{"a new peer", with(func(s *state.Snapshot) { s.Sessions.Peers = s.Sessions.Peers[1:] }), snapshot(), []string{"r1tor1  -> Established "}},
		{"a removed peer", snapshot(), with(func(s *state.Snapshot) { s.Sessions.Peers = s.Sessions.Peers[1:] }), []string{"r1tor1 Established ->  "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, one := range changesOf(c.last, c.next).Changes {
				got = append(got, fmt.Sprintf("%s %s -> %s %s", one.Name, one.From, one.To, one.Why))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	many := snapshot()
	for i := range 4 * maxChanges {
		many.Sessions.Peers = append(many.Sessions.Peers, peer(bgp.PeerStatus{Address: ip(fmt.Sprintf("10.58.0.%d", i))}))
	}
	if v := changesOf(snapshot(), many); len(v.Changes) != maxChanges || v.More != 3*maxChanges {
		t.Errorf("of %d changes %d are shown and %d counted", 4*maxChanges, len(v.Changes), v.More)
	}
}

// TestFilter: the table has a bounded number of rows, those in trouble first, and the
// filter looks at all.
func TestFilter(t *testing.T) {
	s := snapshot()
	for i := range 2000 {
		s.Sessions.Peers = append(s.Sessions.Peers, peer(bgp.PeerStatus{
			Name: "clients", Address: ip(fmt.Sprintf("10.58.%d.%d", i/250, i%250)), ASN: 64512, Role: bgp.Client, State: state.Established,
		}))
	}
	s.Sessions.Peers[1999].State = "Active"
	s.Sessions.Peers[1998].Trouble = "two speakers have one router ID"
	v := sessionsOf(s, "")
	if len(v.Rows) != maxSessions || v.Found != 2003 || v.All != 2003 {
		t.Errorf("%d rows of %d found of %d", len(v.Rows), v.Found, v.All)
	}
	if v.Rows[0].Address != s.Sessions.Peers[1999].Address.String() || v.Rows[1].Address != s.Sessions.Peers[1998].Address.String() {
		t.Errorf("the first rows are %+v and %+v", v.Rows[0], v.Rows[1])
	}
	for filter, want := range map[string]int{"rr1": 1, "as65101": 1, "ebgp": 1, "10.58.7.2": 61, "active": 1, "client": 2000, "no such": 0} {
		if v := sessionsOf(s, filter); v.Found != want {
			t.Errorf("%q finds %d, want %d", filter, v.Found, want)
		}
	}
	b := &bed{}
	b.put(s)
	at := b.serve(t)
	var got sessionsView
	next(t, at.follow(t.Context(), "?filter=RR1"), "sessions", &got)
	if len(got.Rows) != 1 || got.Rows[0].Name != "rr1" {
		t.Errorf("the filter of a page: %+v", got)
	}
	at.refused("/api/live?filter="+strings.Repeat("x", maxFilter+1), http.StatusBadRequest, "filter: use at most 100 bytes")
}

// TestTextsOfPeers: a text from the network is bounded, and cannot end an event or begin
// another one.
func TestTextsOfPeers(t *testing.T) {
	b := &bed{}
	b.put(lost("<script>alert(1)</script>\n\nevent: status\ndata: {}\n\n" + strings.Repeat("x", 100_000)))
	events := b.serve(t).follow(t.Context(), "")
	var status statusView
	next(t, events, "status", &status)
	var v sessionsView
	next(t, events, "sessions", &v)
	if text := v.Rows[0].LastError; !strings.HasPrefix(text, "<script>alert(1)</script>\n\nevent: status") || len(text) > maxText+4 {
		t.Errorf("the text came as %q", text)
	}
	var drawn topologyView
	next(t, events, "topology", &drawn)
	if status.Node != "r1n1" || len(status.Problems) == 0 || len(status.Problems[0]) > maxText+4 {
		t.Errorf("the status: %+v", status)
	}
}
