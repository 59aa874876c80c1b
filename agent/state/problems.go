package state

import (
	"fmt"
	"slices"

	"onlink/agent/drain"
)

// Problems returns the problems for the operator, one line each with the remedy.
func (s *Snapshot) Problems() []string {
	out := slices.Clone(s.Found)
	if s.Drain != drain.Serving {
		out = append(out, fmt.Sprintf("the node is %s: other nodes do not use its prefixes until onlinkctl undrain", s.Drain))
	}
	for _, h := range s.Held {
		out = append(out, h.Problem())
	}
	for i := range s.Certificates {
		if text := s.Certificates[i].Problem(s.Taken); text != "" {
			out = append(out, text)
		}
	}
	out = append(out, s.Sessions.problems()...)
	out = append(out, s.IPAM.problems()...)
	out = append(out, s.Contested()...)
	for prefix, why := range s.Routes.Failed {
		out = append(out, fmt.Sprintf("route %s: %s", prefix, why))
	}
	slices.Sort(out)
	return append(out, s.Routes.Problems...)
}

// gonePeersShown bounds the problems of peers that are not configured: whoever
// has the addresses can make as many as there are.
const gonePeersShown = 8

// problems returns the faults of each session.
func (s *Sessions) problems() []string {
	var out []string
	gone := 0
	for i := range s.Peers {
		p := &s.Peers[i]
		if w := p.Withheld; w.Routes > 0 {
			out = append(out, fmt.Sprintf("peer %s (%s): %d routes are withheld because no message to it can hold them, such as %s: %s", p.Name, p.Address, w.Routes, w.Prefix, w.Why))
		}
		text := p.Problem()
		if text == "" {
			continue
		}
		if p.Gone {
			if gone++; gone > gonePeersShown {
				continue
			}
		}
		out = append(out, text)
	}
	if more := gone - gonePeersShown; more > 0 {
		out = append(out, fmt.Sprintf("%d more rejected or lost peers that are not configured, see onlinkctl peers", more))
	}
	return out
}

// Problem returns the peer's problem for the operator; "" when all is well.
func (p *Peer) Problem() string {
	name := fmt.Sprintf("peer %s (%s)", p.Name, p.Address)
	switch {
	case p.Stranger && !p.Speaks: // a probe of the port
		return ""
	case p.Stranger:
		return fmt.Sprintf("connections from %s are %s", p.Address, p.LastError)
	case p.Held != "":
		return name + " is held down: " + p.Held
	case p.Trouble != "":
		return name + ": " + p.Trouble
	case !p.Up() && p.LastError != "":
		return fmt.Sprintf("%s is %s: %s", name, p.State, p.LastError)
	}
	return ""
}
