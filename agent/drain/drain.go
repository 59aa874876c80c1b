// Package drain keeps whether this node announces its prefixes: a [Drain]
// withdraws and restores them, and outlives restarts. It contains no BGP: the
// originate flow reads the phase and reports the announcements it has sent.
package drain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"onlink/internal/atomicfile"
)

// Drain is the phase of this node's announcements. A drained node keeps its
// sessions, routes and pods; its prefixes are announced with GRACEFUL_SHUTDOWN
// for a while, so that other nodes move to other paths if there are any
// (RFC 8326), and are then withdrawn. A file in paths.state keeps it over
// restarts. Its methods may be called by any goroutine.
type Drain struct {
	path string
	// changed has room for one signal: a new phase sends, it is never closed; full
	// means that the originate flow has a signal that it has not received yet.
	changed chan struct{}

	mu    sync.Mutex // guards all below
	phase Phase
	cause Cause         // of a phase other than Serving
	until time.Time     // when Leaving becomes Drained
	moved chan struct{} // closed by the next change of phase, or of the announcements
	told  Phase         // of the present announcements
	count int           // prefixes announced now
}

// Phase is how far a node is out of traffic.
type Phase uint8

// The phases of a drain (RFC 8326).
const (
	Serving Phase = iota
	Leaving       // announced with GRACEFUL_SHUTDOWN
	Drained       // withdrawn
)

// String returns the name shown by onlinkctl.
func (p Phase) String() string {
	return [...]string{"serving", "leaving", "drained"}[p]
}

// Cause is who took a node out, and when. It is zero where that is not known, as after a
// drain of an earlier version.
type Cause struct {
	By    string
	Since time.Time
}

// String renders it behind "the node is drained"; "": it is not known.
func (c Cause) String() string {
	if c.Since.IsZero() {
		return ""
	}
	return fmt.Sprintf(" since %s by %s", c.Since.UTC().Format(time.RFC3339), c.By)
}

// Open reads whether the node was drained when the agent last ran, from the
// folder of its state.
func Open(state string) (*Drain, error) {
	d := &Drain{path: filepath.Join(state, "drained"), changed: make(chan struct{}, 1), moved: make(chan struct{})}
	switch text, err := os.ReadFile(d.path); {
	case err == nil:
		d.phase, d.told, d.cause = Drained, Drained, parse(string(text))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read drain state: %w", err)
	}
	return d, nil
}

// parse reads the cause of a mark.
func parse(mark string) Cause {
	at, by, _ := strings.Cut(strings.TrimSpace(mark), " ")
	since, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return Cause{}
	}
	return Cause{By: by, Since: since}
}

// Start takes the node out: GRACEFUL_SHUTDOWN for wait, then withdrawal. A
// node that is leaving or drained only has its wait changed. by is who asked.
func (d *Drain) Start(wait time.Duration, by string) error {
	d.mu.Lock()
	cause := d.cause
	if d.phase == Serving {
		cause = Cause{By: by, Since: time.Now()}
	}
	d.mu.Unlock()
	// The mark is there after a power cut.
	if err := atomicfile.Replace(d.path, fmt.Appendln(nil, cause.Since.UTC().Format(time.RFC3339), cause.By), 0o600); err != nil {
		return fmt.Errorf("write drain state: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cause = cause
	if d.phase != Drained {
		d.phase, d.until = Leaving, time.Now().Add(wait)
	}
	d.signal()
	return nil
}

// End brings the node back.
func (d *Drain) End() error {
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove drain state: %w", err)
	}
	if err := atomicfile.SyncDir(filepath.Dir(d.path)); err != nil {
		return fmt.Errorf("remove drain state: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase, d.cause = Serving, Cause{}
	d.signal()
	return nil
}

// Changed is received from by the originate flow: the phase may be another.
func (d *Drain) Changed() <-chan struct{} { return d.changed }

// signal wakes the originate flow. The caller holds mu.
func (d *Drain) signal() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Now returns the phase, and in how long it ends by itself: 0 for never.
func (d *Drain) Now() (p Phase, rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != Leaving {
		return d.phase, 0
	}
	if rest = time.Until(d.until); rest > 0 {
		return Leaving, rest
	}
	d.phase = Drained
	return Drained, 0
}

// Announced records the announcements sent: their phase and number of prefixes.
func (d *Drain) Announced(p Phase, prefixes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told, d.count = p, prefixes
	close(d.moved)
	d.moved = make(chan struct{})
}

// Cause returns who took the node out; zero: nobody did, or it is not known.
func (d *Drain) Cause() Cause {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cause
}

// State returns the phase and the number of prefixes that are announced now.
func (d *Drain) State() (told Phase, prefixes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told, d.count
}

// Await returns when p is announced to the peers. It returns [ErrOvertaken]
// when another request made that impossible, or the error of ctx.
func (d *Drain) Await(ctx context.Context, p Phase) error {
	for {
		d.mu.Lock()
		told, want, moved := d.told, d.phase, d.moved
		d.mu.Unlock()
		switch {
		case told == p:
			return nil
		case p == Drained && want == Serving, p == Serving && want != Serving:
			return ErrOvertaken
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ErrOvertaken means that a concurrent request set the opposite phase.
var ErrOvertaken = errors.New("another request changed the drain state")
