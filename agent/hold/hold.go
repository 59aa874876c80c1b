// Package hold keeps changes that the agent did not make because of what they
// would remove, until an operator confirms them. A source of desires that has
// failed, such as an API server whose objects vanished, looks like one with fewer
// desires: what it would withdraw stays in force, and is an alarm.
package hold

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

var (
	// ErrUnknown means that no held change has the digest.
	ErrUnknown = errors.New("no such change is held: another one may have replaced it; onlinkctl status lists held changes")
	// ErrSeveral means that several changes are held and no digest names one.
	ErrSeveral = errors.New("several changes are held: name one by its digest; onlinkctl status lists them")
)

// Change is one held change.
type Change struct {
	What   string // config, or "announce OWNER": at most one change of each is held
	Reason string // what it would remove
	// InFile means that the configuration file has the change: the next start makes it.
	InFile bool
	Digest string // of What and the content of the change
	Since  time.Time
}

// Problem returns the change as a problem for the operator, with the remedy.
func (c Change) Problem() string {
	source := "correct its source"
	if c.InFile {
		source = "correct the file, which a restart of onlinkd takes as it is"
	}
	return fmt.Sprintf("a change of %s is held because it would remove %s: %s, or confirm it with onlinkctl config confirm %s", c.What, c.Reason, source, c.Digest)
}

// Changes are the held changes. They do not outlive the process: the source
// sends its desire again. It is safe for concurrent use.
type Changes struct {
	log *slog.Logger

	turn sync.Mutex // held while a change is applied: two confirmations do not apply it twice

	mu    sync.Mutex // guards the fields below
	held  map[string]held
	count uint64 // of the changes that were held
}

type held struct {
	Change

	apply func(ctx context.Context) error
}

// New returns an empty set.
func New(log *slog.Logger) *Changes { return &Changes{log: log, held: map[string]held{}} }

// Hold keeps a change for [Changes.Confirm], in place of an earlier one of the same
// name, and returns it with Digest and Since. content identifies it: the same content
// again stays the same held change, with its time and without another alarm. apply makes
// the change; it is called without a lock of the set, and may call [Changes.Drop].
func (c *Changes) Hold(change Change, content []byte, apply func(ctx context.Context) error) Change {
	sum := sha256.Sum256(append([]byte(change.What+"\x00"), content...))
	one := held{change, apply}
	one.Digest, one.Since = hex.EncodeToString(sum[:8]), time.Now()
	c.mu.Lock()
	last, again := c.held[one.What]
	again = again && last.Digest == one.Digest
	if again {
		one.Since = last.Since
	}
	c.held[one.What] = one
	if !again {
		c.count++
	}
	c.mu.Unlock()
	if !again {
		c.log.Warn("change held until it is confirmed", "what", one.What, "would_remove", one.Reason, "digest", one.Digest)
	}
	return one.Change
}

// Drop forgets the held change of what: a later desire has none of its removals.
func (c *Changes) Drop(what string) {
	c.mu.Lock()
	last, was := c.held[what]
	delete(c.held, what)
	c.mu.Unlock()
	if was {
		c.log.Info("held change dropped", "what", what, "digest", last.Digest)
	}
}

// Confirm applies the held change of a digest, "": the only one. A change that
// fails stays held. Errors are [ErrUnknown], [ErrSeveral] and those of the change.
func (c *Changes) Confirm(ctx context.Context, digest string) (Change, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	one, err := c.find(digest)
	if err != nil {
		return Change{}, err
	}
	if err := one.apply(ctx); err != nil {
		return one.Change, fmt.Errorf("apply the held change of %s: %w", one.What, err)
	}
	c.mu.Lock()
	if c.held[one.What].Digest == one.Digest {
		delete(c.held, one.What)
	}
	c.mu.Unlock()
	c.log.Info("held change confirmed", "what", one.What, "digest", one.Digest)
	return one.Change, nil
}

func (c *Changes) find(digest string) (held, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if digest == "" && len(c.held) > 1 {
		return held{}, ErrSeveral
	}
	for _, one := range c.held {
		if digest == "" || one.Digest == digest {
			return one, nil
		}
	}
	return held{}, ErrUnknown
}

// List returns the held changes, sorted by name.
func (c *Changes) List() []Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Change
	for _, one := range c.held {
		out = append(out, one.Change)
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.What, b.What) })
	return out
}

// Count returns how many changes were held since the start. One that comes again while it
// is held counts once.
func (c *Changes) Count() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}
