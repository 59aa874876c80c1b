package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Agents are the agents of other nodes.
type Agents interface {
	// Ask asks the agent of a node, at one of its addresses, and returns within a
	// second: [ErrAgentsOff], a [SilentError], or why the agent does not answer this
	// question.
	Ask(ctx context.Context, node []netip.Addr, q Inquiry) (Findings, error)
}

// ErrAgentsOff says that this node has nothing to prove its identity to other agents
// with.
var ErrAgentsOff = errors.New("this node has no api.admin.tcp with api.admin.tls")

// SilentError says that no agent answers at an address.
type SilentError struct {
	At      netip.AddrPort
	Refused bool // the machine answers: no process listens there
	Err     error
}

// Error implements error.
func (e *SilentError) Error() string { return fmt.Sprintf("no answer at %s: %v", e.At, e.Err) }

// Unwrap returns the cause.
func (e *SilentError) Unwrap() error { return e.Err }

// Inquiry is the question of one agent to another: what it sees of an address.
type Inquiry struct {
	// To is the address. From is where the packets come from, which the answers go
	// back to; the zero Addr: the way back is of no concern.
	Question

	Node      string       // the one that asks
	Addresses []netip.Addr // of that node
	// Peers are the peers that would bring it the announcement of the address.
	Peers []netip.Addr
	// Tunnel is the outer source address of the packets; the zero Addr: they do not
	// come through a tunnel.
	Tunnel netip.Addr
	Format string // of that tunnel's packets, see [TunnelState]
	// Owner is the node that has the address's block, and OwnerAddresses are its
	// addresses, as far as the asking node has them.
	Owner          string
	OwnerAddresses []netip.Addr
}

// Findings are the answer to an [Inquiry].
type Findings struct {
	Node  string       // that answers
	Block netip.Prefix // of this node, with the address; the zero Prefix: none
	Steps []Step       // the packets' way to the address
	Back  []Step       // the answers' way back
	// Owner is the node that has the block as far as the registry told this one, and
	// OwnerAddresses are its addresses.
	Owner          string
	OwnerAddresses []netip.Addr
	// OwnerUp says that a session with the owner is Established.
	OwnerUp bool
}
