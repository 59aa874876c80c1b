package agent

import "context"

// explainRefused tells what peers announce for the address and import refuses.
// It reports whether there is something.
func (a *agent) explainRefused(ctx context.Context, e *explanation, ok bool) bool {
	found := false
	for _, r := range a.speaker.Announced(ctx, e.addr) {
		if r.Verdict.Accepted {
			continue
		}
		found = true
		e.add(ok, "import", "%s next hop %s, announced by %s (%s), refused by its import: %s", r.Route.Prefix, r.Route.NextHop, r.Name, r.Peer, r.Verdict.Rule)
	}
	return found
}
