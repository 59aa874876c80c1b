// Package reload applies a changed configuration file to a running agent. It
// holds the configuration in force ([Reloader.Current]) and the table of the
// agent's [Part]s, which maps each key to the part that applies its change. It
// contains no part itself.
//
// A file is applied as a whole or not at all: after any error the agent continues
// with the last good one.
package reload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"onlink/agent/config"
	"onlink/agent/forecast"
	"onlink/agent/hold"
)

var (
	// ErrRestart means that the file has a change that needs a restart.
	ErrRestart = errors.New("needs a restart of onlinkd, which keeps routes and pods")
	// ErrAnew is returned by [Reloader.Run] when the file has a change, made on
	// request, with which the agent has to begin anew.
	ErrAnew = errors.New("the configuration has a change that needs a restart")
	// ErrHeld means that the file would remove so much that it waits for a confirmation.
	ErrHeld = errors.New("held until it is confirmed")
	// ErrStale means that the file is not the one that an edit was made for.
	ErrStale = errors.New("the file has changed since it was read; read it again")
	// errNoForecast means that the agent cannot say what it would do.
	errNoForecast = errors.New("this agent makes no forecast")
	// ErrNoFile means that the configuration comes from no file.
	ErrNoFile = errors.New("this agent was started without a configuration file")
)

// Setup is the environment of a [Reloader].
type Setup struct {
	Log  *slog.Logger
	File *config.File // nil: the configuration does not change
	// Asked has one receive for every wish to read the file now (SIGHUP): its author,
	// for the log.
	Asked <-chan string
	Parts Parts
	// Facts returns the node's present facts, without Routers: those in force
	// stay until [Reloader.SetRouters].
	Facts func() config.Facts
	// Held keeps the changes that a guarded edit does not make; nil: a set of its own.
	Held *hold.Changes
	// InUse reports whether addresses of a pool are assigned on this node; nil: none
	// are.
	InUse func(pool netip.Prefix) bool
	// Forecast returns what the agent would do with a configuration, with so many items
	// in each list; nil: it is not known.
	Forecast func(ctx context.Context, next *config.Effective, items int) (*forecast.Result, error)
	// Startable returns why an agent could not start with a configuration on this
	// machine, for a change that needs a restart; nil: it always could.
	Startable func(*config.Effective) error
}

// Reloader owns the configuration in force.
type Reloader struct {
	log   *slog.Logger
	file  *config.File
	asked <-chan string
	parts Parts
	facts func() config.Facts
	held  *hold.Changes
	inUse func(netip.Prefix) bool
	fits  func(*config.Effective) error // Setup.Startable
	// foresee is Setup.Forecast.
	foresee func(ctx context.Context, next *config.Effective, items int) (*forecast.Result, error)

	// current is replaced, never written to: every reader loads it, and none
	// keeps it, so there is no second truth and no lock to hold in the wrong order.
	current atomic.Pointer[config.Effective]
	renewed atomic.Pointer[chan struct{}] // closed, and replaced, after current is

	// anew has room for one signal, sent once the file has a change that needs a
	// restart, and is never closed.
	anew chan struct{}

	turn sync.Mutex // held while the agent or the file is changed; guards the two below
	seen string     // digest of the text that was taken in, held or refused last; "" before the first
	kept string     // digest of the file's text that is held; "": the file is not

	mu     sync.Mutex // guards the fields below
	err    error      // why the newest file is not in force; nil: it is
	digest string     // of the text in force; "": it is in no file
	record Record
}

// Record counts the readings and changes of the file since the start.
type Record struct {
	Applied, Rejected uint64
	At                time.Time // since when the configuration is in force
}

// New returns the reloader of an agent that starts with a configuration.
func New(s Setup, start *config.Effective) *Reloader {
	r := &Reloader{log: s.Log, file: s.File, asked: s.Asked, parts: s.Parts, facts: s.Facts, held: s.Held, inUse: s.InUse, fits: s.Startable, foresee: s.Forecast, anew: make(chan struct{}, 1)}
	if r.held == nil {
		r.held = hold.New(s.Log)
	}
	if r.inUse == nil {
		r.inUse = func(netip.Prefix) bool { return false }
	}
	if r.foresee == nil {
		r.foresee = func(context.Context, *config.Effective, int) (*forecast.Result, error) { return nil, errNoForecast }
	}
	if r.fits == nil {
		r.fits = func(*config.Effective) error { return nil }
	}
	r.current.Store(start)
	r.record.At = time.Now()
	r.renewed.Store(new(make(chan struct{})))
	if r.file != nil {
		if text, err := r.file.Again(); err == nil && r.inForce(text) {
			r.digest = digestOf(text)
		}
	}
	return r
}

// Current returns the configuration in force. It must not be written to, nor
// kept beyond the present operation.
func (r *Reloader) Current() *config.Effective { return r.current.Load() }

// Renewed returns a channel that is closed when another configuration than now is
// in force. Take it before [Reloader.Current].
func (r *Reloader) Renewed() <-chan struct{} { return *r.renewed.Load() }

// Trouble returns why the newest file is not in force, nil when it is.
func (r *Reloader) Trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Problems says that the newest file is not in force, and why.
func (r *Reloader) Problems() []string {
	if err := r.Trouble(); err != nil {
		return []string{"the changed configuration is not in force: " + strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return nil
}

// Digest returns the digest of the text in force, as [Reloader.Text] does of the
// file; "": the configuration is from no file, or the file was another one already
// when the agent started.
func (r *Reloader) Digest() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.digest
}

// noteHeld keeps that the newest file is held: that is no trouble of its own.
func (r *Reloader) noteHeld() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = nil
}

// note keeps the outcome of the newest file.
func (r *Reloader) note(err error, text []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err = err; err != nil {
		r.record.Rejected++
		return
	}
	r.digest = digestOf(text)
	r.record.Applied++
	r.record.At = time.Now()
}

// Record returns how the readings and changes of the file ended.
func (r *Reloader) Record() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record
}

// resolve returns the effective configuration of a text on this node as it is now.
func (r *Reloader) resolve(text []byte) (*config.Effective, error) {
	file, err := r.file.Parse(text)
	if err != nil {
		return nil, err
	}
	facts := r.facts()
	facts.Routers = r.Current().Routers() // so that a changed file resets no session
	return config.Resolve(file, facts)
}

// take brings every part to a configuration, which is in force then. undo is
// called before the parts go back to the last one; nil: there is nothing to undo.
func (r *Reloader) take(ctx context.Context, next *config.Effective, undo func() error) error {
	last := r.Current()
	if err := r.parts.check(last, next); err != nil {
		return err
	}
	if err := r.parts.apply(ctx, last, next, undo); err != nil {
		return err
	}
	r.current.Store(next)
	close(*r.renewed.Swap(new(make(chan struct{}))))
	return nil
}

// SetRouters replaces the addresses of the peers of interfaces by the result of
// find for the present configuration, which find must not write to.
func (r *Reloader) SetRouters(ctx context.Context, find func(*config.Effective) map[string]netip.Addr) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	last := r.Current()
	next := last.WithRouters(find(last))
	if next == last {
		return nil
	}
	return r.take(ctx, next, nil)
}

// Text returns the file, its text and the digest of it, which
// [Reloader.Change] takes.
func (r *Reloader) Text() (path string, text []byte, digest string, err error) {
	if r.file == nil {
		return "", nil, "", ErrNoFile
	}
	text, err = r.file.Again()
	return r.file.Path, text, digestOf(text), err
}

// inForce reports whether a text is the file of the configuration in force.
func (r *Reloader) inForce(text []byte) bool {
	file, err := r.file.Parse(text)
	return err == nil && r.Current().From(file)
}

// digestOf identifies a text.
func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
