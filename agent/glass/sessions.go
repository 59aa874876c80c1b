package glass

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"onlink/agent/state"
	"onlink/bgp"
)

// sessionsView is the table of sessions.
type sessionsView struct {
	Rows  []sessionRow `json:"rows"`
	Found int          `json:"found"` // that the filter selects
	All   int          `json:"all"`
}

// sessionRow is one session.
type sessionRow struct {
	Name       string     `json:"name"`
	Address    string     `json:"address"`
	ASN        uint32     `json:"asn"`
	Role       string     `json:"role"`
	State      string     `json:"state"`
	Up         bool       `json:"up"`
	Since      *time.Time `json:"since,omitempty"`
	Received   int        `json:"received"`
	Accepted   int        `json:"accepted"`
	Advertised int        `json:"advertised"` // -1: not counted
	Flaps      int        `json:"flaps"`
	LastError  string     `json:"lastError"`
	ErrorAt    *time.Time `json:"errorAt,omitempty"`
	BFD        string     `json:"bfd,omitempty"`
	Problem    string     `json:"problem,omitempty"`
	Gone       bool       `json:"gone"`
}

func rowOf(p *state.Peer) sessionRow {
	r := sessionRow{
		Name: short(p.Name), Address: p.Address.String(), ASN: p.ASN, Role: p.Role.String(), State: p.State, Up: p.Up(), Since: when(p.Since),
		Received: p.Received, Accepted: p.Accepted, Advertised: p.Advertised, Flaps: p.Flaps,
		LastError: short(p.LastError), ErrorAt: when(p.ErrorAt), Problem: short(p.Problem()), Gone: p.Gone,
	}
	if p.Stranger {
		r.Role = "not configured"
	}
	if p.BFD != nil {
		r.BFD = p.BFD.State.String()
	}
	return r
}

// when is nil for the zero Time.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// sessionsOf returns the sessions that a filter selects, those with a fault first. The
// filter is in lower case.
func sessionsOf(s *state.Snapshot, filter string) *sessionsView {
	v := &sessionsView{Rows: []sessionRow{}, All: len(s.Sessions.Peers)}
	var found []*state.Peer
	for i := range s.Sessions.Peers {
		if p := &s.Sessions.Peers[i]; selects(filter, p) {
			found = append(found, p)
		}
	}
	v.Found = len(found)
	slices.SortStableFunc(found, func(a, b *state.Peer) int { return cmp.Compare(urgency(a), urgency(b)) })
	for _, p := range found[:min(len(found), maxSessions)] {
		v.Rows = append(v.Rows, rowOf(p))
	}
	return v
}

// urgency orders sessions: those that are down, those with a fault, those that are
// well, those that are gone.
func urgency(p *state.Peer) int {
	switch {
	case p.Gone:
		return 3
	case !p.Up():
		return 0
	case p.Problem() != "":
		return 1
	}
	return 2
}

func selects(filter string, p *state.Peer) bool {
	return filter == "" || slices.ContainsFunc([]string{p.Name, p.Address.String(), p.State, p.Role.String(), "as" + strconv.FormatUint(uint64(p.ASN), 10)}, func(s string) bool {
		return strings.Contains(strings.ToLower(s), filter)
	})
}

// changesView are the sessions that changed since the snapshot before.
type changesView struct {
	Changes []change `json:"changes"`
	More    int      `json:"more"`
}

// change is one of them.
type change struct {
	At      time.Time `json:"at"`
	Name    string    `json:"name"`
	Address string    `json:"address"`
	From    string    `json:"from"` // state; "": the session is new
	To      string    `json:"to"`   // state; "": it is gone
	Why     string    `json:"why,omitempty"`
}

// changesOf returns the sessions that came up, were lost, are new or gone between two
// snapshots. A session that is down tries again all the time: that is no change.
func changesOf(last, next *state.Snapshot) changesView {
	v := changesView{Changes: []change{}}
	if last == nil || last == next {
		return v
	}
	add := func(c change) {
		if len(v.Changes) >= maxChanges {
			v.More++
			return
		}
		v.Changes = append(v.Changes, c)
	}
	was := map[netip.Addr]*state.Peer{}
	for i := range last.Sessions.Peers {
		was[last.Sessions.Peers[i].Address] = &last.Sessions.Peers[i]
	}
	for i := range next.Sessions.Peers {
		p := &next.Sessions.Peers[i]
		old, known := was[p.Address]
		delete(was, p.Address)
		c := change{At: next.Taken, Name: short(p.Name), Address: p.Address.String(), To: p.State}
		switch {
		case !known:
			add(c)
			continue
		case old.Up() == p.Up() && (!p.Up() || old.Since.Equal(p.Since)):
			continue
		case old.Up(): // lost, and perhaps up again since the last snapshot
			c.Why = short(p.LastError)
		}
		if !p.Since.IsZero() {
			c.At = p.Since
		}
		c.From = old.State
		add(c)
	}
	for _, old := range was {
		add(change{At: next.Taken, Name: short(old.Name), Address: old.Address.String(), From: old.State})
	}
	slices.SortStableFunc(v.Changes, func(a, b change) int { return a.At.Compare(b.At) })
	return v
}

// sessionView is one session in detail, as lines of a name and a text.
type sessionView struct {
	Lines [][2]string `json:"lines"`
}

// session shows one session in detail.
func (g *glass) session(w http.ResponseWriter, r *http.Request) {
	addr, err := netip.ParseAddr(r.URL.Query().Get("address"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "address: write the IP address of a peer")
		return
	}
	d, err := g.Sessions.Detail(r.Context(), addr)
	switch {
	case errors.Is(err, bgp.ErrUnknownPeer):
		refuse(w, http.StatusNotFound, "no peer has the address "+addr.String())
		return
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, detailOf(&d))
}

// detailOf writes a session in words.
func detailOf(d *bgp.PeerDetail) *sessionView {
	v := &sessionView{}
	add := func(name, text string) {
		if text != "" {
			v.Lines = append(v.Lines, [2]string{name, short(text)})
		}
	}
	seconds := func(t time.Duration) string {
		if t <= 0 {
			return ""
		}
		return t.String()
	}
	add("held down", d.Held)
	add("fault", d.Trouble)
	add("local address", text(d.Local))
	add("router ID of the peer", text(d.RouterID))
	add("hold time, configured", seconds(d.Hold))
	add("hold time, negotiated", seconds(d.NegotiatedHold))
	add("keepalive, negotiated", seconds(d.NegotiatedKeepalive))
	for _, f := range d.PerFamily {
		add(f.Family.String(), strconv.Itoa(f.Received)+" received, "+strconv.Itoa(f.Accepted)+" accepted")
	}
	add("capabilities of this node", capabilities(d.Ours))
	add("capabilities of the peer", capabilities(d.Theirs))
	add("messages received", messages(d.Heard))
	add("messages sent", messages(d.SentMessages))
	if n := d.Faults.Total(); n > 0 {
		add("faulty messages", strconv.FormatUint(n, 10))
	}
	if d.Lost.Received > 0 {
		add("lost with the session", strconv.Itoa(d.Lost.Received)+" routes")
	}
	if d.Password {
		add("TCP MD5", "yes")
	}
	add("lost so often", strconv.Itoa(d.Flaps))
	add("last error", d.LastError)
	return v
}

func capabilities(list []bgp.Capability) string {
	var out []string
	for _, c := range list {
		out = append(out, strings.TrimSpace(c.Name+" "+c.Value))
	}
	return strings.Join(out, ", ")
}

func messages(m bgp.Messages) string {
	var out []string
	for _, one := range []struct {
		n    uint64
		name string
	}{{m.Open, "OPEN"}, {m.Update, "UPDATE"}, {m.Notification, "NOTIFICATION"}, {m.Keepalive, "KEEPALIVE"}, {m.Refresh, "ROUTE-REFRESH"}} {
		if one.n > 0 {
			out = append(out, strconv.FormatUint(one.n, 10)+" "+one.name)
		}
	}
	return strings.Join(out, ", ")
}
