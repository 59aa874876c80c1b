// Package monitor is the full-screen view of one agent for the engineer on call.
//
// The [Model] is pure: answers of the agent and keys go in, a [Frame] of lines comes
// out, and the time is an argument. [Run] is the only part with a terminal, and the only
// importer of the terminal library. The package makes no call: a [Source] does.
package monitor

import (
	"io"
	"time"

	onlinkv1 "onlink/proto/v1"
)

// Answer is a message of a [Source]: what the agent answered, of which only the fields
// that came are set, or why there is none. Its texts are safe for a terminal.
type Answer struct {
	At     time.Time
	Status *onlinkv1.Status
	Peers  *onlinkv1.ListPeersReply
	Pools  *onlinkv1.ListPoolsReply
	Blocks *onlinkv1.ListBlocksReply
	Detail *onlinkv1.PeerDetail
	Failed error     // why the connection ended or could not be made
	Again  time.Time // the next attempt, after Failed
}

// merge adds what a later answer has. Details are left out: they come again.
func (a *Answer) merge(later *Answer) {
	a.At = later.At
	if later.Status != nil {
		a.Status = later.Status
	}
	if later.Peers != nil {
		a.Peers = later.Peers
	}
	if later.Pools != nil {
		a.Pools = later.Pools
	}
	if later.Blocks != nil {
		a.Blocks = later.Blocks
	}
}

// Texts write what other commands print too, in their words.
type Texts struct {
	Age     func(time.Duration) string
	Trouble func(*onlinkv1.Peer) string                 // why a session is down, or what is wrong with it
	Peer    func(io.Writer, *onlinkv1.PeerDetail) error // one session in detail
}
