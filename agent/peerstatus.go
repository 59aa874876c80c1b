package agent

import (
	"fmt"

	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
)

// gonePeersShown bounds the problems of peers that are not configured: whoever
// has the addresses can make as many as there are.
const gonePeersShown = 8

// statusOfPeers counts the sessions and says what is wrong with each.
func (a *agent) statusOfPeers(st *onlinkv1.Status) {
	gone := 0
	for _, p := range a.speaker.Peers() {
		if !p.Gone {
			st.PeersTotal++
		}
		if p.State == established {
			st.PeersEstablished++
		}
		if w := p.Withheld; w.Routes > 0 {
			st.Problems = append(st.Problems, fmt.Sprintf("peer %s (%s) is not told %d routes that no message to it can hold, such as %s: %s", p.Name, p.Address, w.Routes, w.Prefix, w.Why))
		}
		text := peerProblem(p)
		if text == "" {
			continue
		}
		if p.Gone {
			if gone++; gone > gonePeersShown {
				continue
			}
		}
		st.Problems = append(st.Problems, text)
	}
	if more := gone - gonePeersShown; more > 0 {
		st.Problems = append(st.Problems, fmt.Sprintf("%d more refused or lost peers that are not configured, see onlinkctl peers", more))
	}
}

// peerProblem says what an operator should look at, or "".
func peerProblem(p bgp.PeerStatus) string {
	who := fmt.Sprintf("peer %s (%s)", p.Name, p.Address)
	switch {
	case p.Stranger && !p.Speaks: // a probe of the port
		return ""
	case p.Stranger:
		return fmt.Sprintf("connections from %s are %s", p.Address, p.LastError)
	case p.Held != "":
		return who + " is held down: " + p.Held
	case p.Trouble != "":
		return who + ": " + p.Trouble
	case p.State != established && p.LastError != "":
		return fmt.Sprintf("%s is %s: %s", who, p.State, p.LastError)
	}
	return ""
}
