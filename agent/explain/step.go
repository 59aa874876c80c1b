package explain

import "fmt"

// State is how a step ended.
type State uint8

// The states of a step.
const (
	OK      State = iota
	Suspect       // it may break the path: it does when a probe stays without an answer
	Broken
)

// String returns the name in the API.
func (s State) String() string {
	switch s {
	case OK:
		return "ok"
	case Suspect:
		return "suspect"
	case Broken:
		return "broken"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Step is one link of the chain, or a part of it.
type Step struct {
	Name   string // owner, announced, import, refused, bgp-path, session, pod, decision, kernel-route, neighbour, tunnel, host, probe, far, status
	State  State
	Detail string
	Cause  Cause  // of a step that is not OK
	Fix    string // of a step that is not OK
	Node   string // the other node that found it; "": this one
	// Sure marks a broken step that the answer of one probe does not refute: it
	// concerns other flows, too.
	Sure bool
}
