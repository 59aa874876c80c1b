package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	onlinkv1 "onlink/proto/v1"
)

func showPeer(cmd *cobra.Command, a *app, peer string) error {
	return show(cmd, a, view[*onlinkv1.PeerDetail]{
		fetch: func(ctx context.Context, c *connection) (*onlinkv1.PeerDetail, error) {
			return c.GetPeer(ctx, &onlinkv1.GetPeerRequest{Peer: peer})
		},
		table: peerText,
	})
}

// peerText writes one line per subject, then the capabilities and the messages.
func peerText(w io.Writer, d *onlinkv1.PeerDetail) error {
	p := d.GetPeer()
	lines := []struct{ key, text string }{
		{"Peer", peerIdentity(p)},
		{"Session", sessionText(p)},
		{"Held", p.GetHeld()},
		{"Trouble", p.GetTrouble()},
		{"Last error", lastError(p)},
		{"Addresses", addressText(d)},
		{"Families", strings.Join(d.GetFamilies(), ", ")},
		{"Timers", timerText(d.GetTimers())},
		{"Opening", dialText(d)},
		{"Routes", routeText(d)},
	}
	for _, g := range d.GetGroups() {
		lines = append(lines, struct{ key, text string }{"Group " + g.GetFamily(), groupText(g)})
	}
	lines = append(lines, struct{ key, text string }{"BFD", bfdText(p.GetBfd())})
	for _, l := range lines {
		if l.text == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-13s%s\n", l.key+":", clean(l.text)); err != nil {
			return err
		}
	}
	if len(d.GetOurs())+len(d.GetTheirs()) == 0 {
		return nil // it has no session, and never had one
	}
	if err := capabilityTable(w, d); err != nil {
		return err
	}
	return messageTable(w, d)
}

func peerIdentity(p *onlinkv1.Peer) string {
	text := fmt.Sprintf("%s, AS %d", peerTitle(p), p.GetAsn())
	if p.GetRole() != "" {
		text += ", " + p.GetRole()
	}
	switch {
	case p.GetStranger():
		text += ", not configured"
	case p.GetGone():
		text += ", dynamic, gone"
	case p.GetDynamic():
		text += ", dynamic"
	}
	return text
}

func sessionText(p *onlinkv1.Peer) string {
	return fmt.Sprintf("%s for %s, lost %s before", p.GetState(), age(p.GetSince().AsDuration()), times(p.GetFlaps(), "time"))
}

// times writes a number of things.
func times(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// lastError is the newest error and its age; it may be of before the present session.
func lastError(p *onlinkv1.Peer) string {
	if p.GetLastError() == "" {
		return ""
	}
	text := p.GetLastError()
	if p.GetLastErrorAge() != nil {
		text = age(p.GetLastErrorAge().AsDuration()) + " ago: " + text
	}
	if p.GetState() == "Established" {
		text += " (before the present session)"
	}
	return text
}

func addressText(d *onlinkv1.PeerDetail) string {
	if d.GetLocal() == "" && d.GetRemoteRouterId() == "" {
		return ""
	}
	return fmt.Sprintf("local %s, router ID %s; remote %s, router ID %s",
		or(d.GetLocal(), "-"), or(d.GetLocalRouterId(), "-"), d.GetPeer().GetAddress(), or(d.GetRemoteRouterId(), "-"))
}

func timerText(t *onlinkv1.PeerTimers) string {
	if t.GetHold().AsDuration() == 0 {
		return ""
	}
	text := fmt.Sprintf("configured hold time %s, keepalive %s, connect retry %s", t.GetHold().AsDuration(), t.GetKeepalive().AsDuration(), t.GetConnectRetry().AsDuration())
	if t.GetNegotiatedHold() != nil {
		text += fmt.Sprintf("; negotiated hold time %s, keepalive %s", t.GetNegotiatedHold().AsDuration(), t.GetNegotiatedKeepalive().AsDuration())
	}
	return text
}

func dialText(d *onlinkv1.PeerDetail) string {
	if d.GetTimers().GetHold().AsDuration() == 0 {
		return ""
	}
	text := map[string]string{
		"both": "either end dials", "peer": "the peer dials", "peer-first": "the peer dials; this node too when the peer does not",
	}[d.GetDials()]
	if d.GetPassword() {
		text += ", TCP MD5"
	}
	return text
}

func routeText(d *onlinkv1.PeerDetail) string {
	p := d.GetPeer()
	if p.GetState() != "Established" {
		if p.GetLost() == nil {
			return ""
		}
		return lossText(p.GetLost())
	}
	var parts []string
	for _, f := range d.GetPerFamily() {
		parts = append(parts, fmt.Sprintf("%s %d received, %d accepted", f.GetFamily(), f.GetReceived(), f.GetAccepted()))
	}
	text := strings.Join(parts, "; ") + fmt.Sprintf("; %d sent", p.GetPrefixesOut())
	if !p.GetEndOfRib() {
		text += "; the peer's first routes are not complete yet (no End-of-RIB)"
	}
	return text
}

// groupNamed bounds the members of an update group in a line.
const groupNamed = 4

func groupText(g *onlinkv1.UpdateGroup) string {
	text := "alone"
	if g.GetSize() > 1 {
		list := g.GetMembers()
		text = fmt.Sprintf("%d peers receive the same: %s", g.GetSize(), strings.Join(list[:min(len(list), groupNamed)], ", "))
		if g.GetSize() > groupNamed {
			text += ", ..."
		}
	}
	text += fmt.Sprintf("; prefixes: %d", g.GetPrefixes())
	if n := g.GetBehind(); n > 0 {
		text += fmt.Sprintf(", %s not sent yet", times(n, "change"))
	} else {
		text += ", all sent"
	}
	if n := g.GetWithheld(); n > 0 {
		text += fmt.Sprintf(", %d withheld", n)
	}
	return text
}

func bfdText(b *onlinkv1.BFD) string {
	if b == nil {
		return ""
	}
	text := fmt.Sprintf("%s for %s, down %s, every %s, detection after %s", b.GetState(), age(b.GetSince().AsDuration()), times(b.GetDowns(), "time"), b.GetInterval().AsDuration(), b.GetDetection().AsDuration())
	if b.GetDiagnostic() != "" {
		text += ": " + b.GetDiagnostic()
	}
	return text
}

// capabilityTable writes the capabilities of both ends side by side.
func capabilityTable(w io.Writer, d *onlinkv1.PeerDetail) error {
	type row struct{ name, ours, theirs string }
	var rows []row
	add := func(list []*onlinkv1.Capability, set func(*row, string)) {
		for _, c := range list {
			i := 0
			for i < len(rows) && rows[i].name != c.GetName() {
				i++
			}
			if i == len(rows) {
				rows = append(rows, row{name: c.GetName()})
			}
			set(&rows[i], or(c.GetValue(), "yes"))
		}
	}
	add(d.GetOurs(), func(r *row, v string) { r.ours = v })
	add(d.GetTheirs(), func(r *row, v string) { r.theirs = v })
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	g := newGrid(w, "CAPABILITY", "THIS NODE", "PEER")
	for _, r := range rows {
		g.row(r.name, r.ours, r.theirs)
	}
	return g.flush()
}

// messageTable writes the messages of both directions, and the faults of the peer's.
func messageTable(w io.Writer, d *onlinkv1.PeerDetail) error {
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	s, r := d.GetSent(), d.GetReceived()
	g := newGrid(w, "MESSAGE", "SENT", "RECEIVED")
	g.row("OPEN", num(s.GetOpen()), num(r.GetOpen()))
	g.row("UPDATE", num(s.GetUpdate()), num(r.GetUpdate()))
	g.row("NOTIFICATION", num(s.GetNotification()), num(r.GetNotification()))
	g.row("KEEPALIVE", num(s.GetKeepalive()), num(r.GetKeepalive()))
	g.row("ROUTE-REFRESH", num(s.GetRefresh()), num(r.GetRefresh()))
	g.row("total", num(s.GetTotal()), num(r.GetTotal()))
	if err := g.flush(); err != nil {
		return err
	}
	f := d.GetPeer().GetFaults()
	if f.GetReset_()+f.GetWithdrawn()+f.GetDiscarded()+f.GetIgnored()+f.GetPanics()+f.GetWithheld() == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	g = newGrid(w, "FAULT", "COUNT", "EFFECT")
	for _, one := range []struct {
		name   string
		n      uint64
		effect string
	}{
		{"reset", f.GetReset_(), "malformed messages that ended the session"},
		{"withdrawn", f.GetWithdrawn(), "UPDATEs whose routes were treated as withdrawn (RFC 7606)"},
		{"discarded", f.GetDiscarded(), "UPDATEs accepted without some attributes"},
		{"ignored", f.GetIgnored(), "UPDATEs without a part for this session"},
		{"panic", f.GetPanics(), "faults of the agent, contained to the session"},
		{"withheld", f.GetWithheld(), "routes that no message to the peer could hold"},
	} {
		if one.n > 0 {
			g.row(one.name, num(one.n), one.effect)
		}
	}
	return g.flush()
}

// or returns the first text that is not empty.
func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
