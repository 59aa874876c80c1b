package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// drain is whether this node announces its prefixes. A drained node keeps its
// sessions, routes and pods; what it owns is announced with GRACEFUL_SHUTDOWN
// for a while, so that others move to other paths where there are any
// (RFC 8326), and is then withdrawn. It outlives restarts: a file in
// paths.state says so.
type drain struct {
	path string
	// changed has room for one signal: a new phase sends, nobody closes; full
	// means that originate has been told and has not looked yet.
	changed chan struct{}

	mu    sync.Mutex // guards all below
	phase phase
	until time.Time     // when leaving becomes drained
	moved chan struct{} // closed by the next change of phase, or of what is announced
	told  phase         // what is announced now
	count int           // prefixes announced now
}

// phase is how far a node is out of traffic.
type phase uint8

const (
	serving phase = iota
	leaving       // announced with GRACEFUL_SHUTDOWN
	drained       // withdrawn
)

// String returns the name shown by onlinkctl.
func (p phase) String() string {
	return [...]string{"serving", "leaving", "drained"}[p]
}

// openDrain reads whether the node was drained when the agent last ran.
func openDrain(state string) (*drain, error) {
	d := &drain{path: filepath.Join(state, "drained"), changed: make(chan struct{}, 1), moved: make(chan struct{})}
	switch _, err := os.Stat(d.path); {
	case err == nil:
		d.phase, d.told = drained, drained
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read drain state: %w", err)
	}
	return d, nil
}

// start takes the node out: GRACEFUL_SHUTDOWN for wait, then withdrawal. A
// node that is leaving or drained only has its wait changed.
func (d *drain) start(wait time.Duration) error {
	if err := writeMark(d.path); err != nil {
		return fmt.Errorf("keep drain state: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != drained {
		d.phase, d.until = leaving, time.Now().Add(wait)
	}
	d.signal()
	return nil
}

// end brings the node back.
func (d *drain) end() error {
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget drain state: %w", err)
	}
	if err := syncDir(filepath.Dir(d.path)); err != nil {
		return fmt.Errorf("forget drain state: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase = serving
	d.signal()
	return nil
}

// signal tells originate to look. The caller holds mu.
func (d *drain) signal() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// now returns the phase, and in how long it ends by itself: 0 for never.
func (d *drain) now() (p phase, rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != leaving {
		return d.phase, 0
	}
	if rest = time.Until(d.until); rest > 0 {
		return leaving, rest
	}
	d.phase = drained
	return drained, 0
}

// announced notes what the peers have been told.
func (d *drain) announced(p phase, prefixes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told, d.count = p, prefixes
	close(d.moved)
	d.moved = make(chan struct{})
}

// state returns what the peers have been told.
func (d *drain) state() (told phase, prefixes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told, d.count
}

// await returns when the peers have been told p, or another request made
// that impossible, or ctx ended.
func (d *drain) await(ctx context.Context, p phase) error {
	for {
		d.mu.Lock()
		told, want, moved := d.told, d.phase, d.moved
		d.mu.Unlock()
		switch {
		case told == p:
			return nil
		case p == drained && want == serving, p == serving && want != serving:
			return errOvertaken
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errOvertaken means that somebody asked for the contrary meanwhile.
var errOvertaken = errors.New("another request changed the drain state meanwhile")

// writeMark makes an empty file that is there after a power cut.
func writeMark(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
