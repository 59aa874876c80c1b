package probe

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Kind is what became of a probe.
type Kind uint8

// The outcomes of a probe.
const (
	Silent   Kind = iota // no answer came in time
	Answered             // the address answered
	Rejected             // another machine, or the address itself, sent an ICMP error
	TooBig               // a machine on the path has a smaller MTU and said so
	Unsent               // this kernel did not send it
	Skipped              // it was not tried, or not for long enough, see Detail
)

// Outcome is the result of a probe.
type Outcome struct {
	Kind   Kind
	RTT    time.Duration // of an answer
	By     netip.Addr    // sender of an ICMP error
	MTU    int           // with TooBig, in bytes
	Detail string        // in words, without the address
	Seen   Seen          // of an Echo with Watch
}

// Echo is one ICMP echo request, repeated while there is no answer.
type Echo struct {
	// Netns is the path of the network namespace that the packet starts in; "":
	// that of the calling thread.
	Netns string
	From  netip.Addr // source; the zero Addr: the kernel's choice
	To    netip.Addr
	// Device is the output device; "": the routes decide. An answer may come
	// through any device.
	Device string
	// Size is that of the IP packet in bytes, sent with "don't fragment" and
	// without regard to a known path MTU; 0: a small packet.
	Size int
	// Watch names devices of the calling thread's namespace on which the packet
	// may leave: Outcome.Seen has whether it did.
	Watch []string
}

const (
	// perSecond bounds the packets of all probes: an operator's loop over many
	// addresses must not be a flood.
	perSecond = 100
	burst     = 100
)

// Prober sends probes of one node.
type Prober struct {
	mu     sync.Mutex
	tokens float64   // guarded by mu
	filled time.Time // guarded by mu
}

// New returns a Prober with a full budget.
func New() *Prober { return &Prober{tokens: burst, filled: time.Now()} }

// take takes one packet from the budget.
func (p *Prober) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tokens = min(burst, p.tokens+perSecond*now.Sub(p.filled).Seconds())
	p.filled = now
	if p.tokens < 1 {
		return false
	}
	p.tokens--
	return true
}

// limited is the outcome of a probe without budget.
func limited() Outcome {
	return Outcome{Kind: Skipped, Detail: fmt.Sprintf("not sent: more than %d probes a second", perSecond)}
}

// cut is the outcome of a probe whose caller waits no longer: what would have answered
// is not known.
func cut(start time.Time) Outcome {
	return Outcome{Kind: Skipped, Detail: fmt.Sprintf("given up after %v, for want of time", time.Since(start).Round(100*time.Millisecond))}
}

// resend are the times after the start at which a probe without an answer is
// sent again: one lost packet, or a first one that waited for a neighbour, is no
// broken path.
var resend = []time.Duration{0, 150 * time.Millisecond, 450 * time.Millisecond, 900 * time.Millisecond}

// patience bounds the wait for an answer.
const patience = 1300 * time.Millisecond

// turn is how long one wait of a socket lasts before the deadline and the context
// are looked at again.
const turn = 20 * time.Millisecond

// rounds calls send at the times of resend, and receive in between, until receive
// has an outcome or the time is over.
func (p *Prober) rounds(ctx context.Context, send func(n int) (Outcome, bool), receive func() (Outcome, bool)) Outcome {
	start, sent := time.Now(), 0
	for time.Since(start) < patience {
		if ctx.Err() != nil {
			return cut(start)
		}
		if sent < len(resend) && time.Since(start) >= resend[sent] {
			if !p.take() {
				return limited()
			}
			if out, ended := send(sent); ended {
				return out
			}
			sent++
		}
		if out, ended := receive(); ended {
			return out
		}
	}
	return Outcome{Kind: Silent, Detail: fmt.Sprintf("no answer to %d packets within %v", sent, time.Since(start).Round(100*time.Millisecond))}
}
