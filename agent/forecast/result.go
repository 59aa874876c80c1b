package forecast

import (
	"net/netip"

	"onlink/bgp"
)

// Result is a forecast.
type Result struct {
	Sessions []Session // by name
	// Installs, Removes and Replaces are routes of the kernel; an item has the route as
	// it will be, of Removes as it is.
	Installs, Removes, Replaces List
	// Mistakes are those of the file that an agent accepts and can never use.
	Mistakes []string
	// Restart are the keys whose change needs a restart, "": none. Every session then
	// restarts gracefully (RFC 4724), and the rest is not computed.
	Restart string
	// Unknown is why the rest is not computed otherwise, "": it is.
	Unknown string
}

// Session is one session, and what becomes of its routes.
type Session struct {
	bgp.SessionForecast

	Effects [bgp.RouteEffects]List
	// Lost counts the prefixes among the withdrawn ones that no new announcement to the
	// peer covers, as an aggregate does.
	Lost int
}

// List counts items, and has the first ones.
type List struct {
	Count int
	First []Item
}

// Item is a prefix with the rule that decides, or its route.
type Item struct {
	Prefix netip.Prefix
	Text   string
}

// add counts an item, and keeps it while there are fewer than limit.
func (l *List) add(limit int, p netip.Prefix, text func() string) {
	if l.Count++; len(l.First) < limit {
		l.First = append(l.First, Item{p, text()})
	}
}

// Withdrawn counts the announcements of the sessions that stay, and those of them that
// would be withdrawn and not covered by others.
func (r *Result) Withdrawn() (lost, of int) {
	for i := range r.Sessions {
		if s := &r.Sessions[i]; s.Up && s.Fate != bgp.FateRemoved {
			lost, of = lost+s.Lost, of+max(s.Advertised, s.Lost)
		}
	}
	return lost, of
}

// Touches reports whether anything would change.
func (r *Result) Touches() bool {
	if r.Restart != "" || r.Unknown != "" || r.Installs.Count+r.Removes.Count+r.Replaces.Count > 0 {
		return true
	}
	for i := range r.Sessions {
		if s := &r.Sessions[i]; s.Fate != bgp.FateKept || s.routes() > 0 {
			return true
		}
	}
	return false
}

// routes counts the routes that the session would treat differently.
func (s *Session) routes() (n int) {
	for _, l := range s.Effects {
		n += l.Count
	}
	return n
}
