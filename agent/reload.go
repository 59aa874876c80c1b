package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"onlink/agent/config"
)

// reloader takes a changed configuration into the running agent. Whatever is
// wrong with the new one, the agent goes on with the last good one; a session
// that the change does not name is not touched.
type reloader struct {
	log   *slog.Logger
	file  *config.File
	asked <-chan struct{} // one receive: read the file now
	apply []applier       // in this order
	// expand fills in what depends on this node.
	expand func(*config.Config) error

	turn sync.Mutex // held while the agent or the file is changed; guards seen
	seen string     // digest of the text that was taken in or refused last; "" before the first

	mu   sync.Mutex // guards all below
	last *config.Config
	err  error // why the newest file is not in force; nil: it is
}

// applier brings one part of the agent from one configuration to the next. It
// changes nothing when it returns an error that is a mistake of the operator.
type applier struct {
	what  string
	apply func(ctx context.Context, next *config.Config) error
}

// reloadable are the parts of a configuration that a running agent can
// change. It clears them, so that what is left must be equal.
func reloadable(c config.Config) config.Config {
	c.BGP.Peers, c.BGP.Mesh, c.BGP.Originate, c.BGP.Filters = nil, nil, nil, nil
	c.Pools, c.Node.Labels, c.CNI.Sysctls = nil, nil, nil
	c.Reload, c.Places = "", config.Places{}
	if r := c.BGP.Reflector; r != nil {
		c.BGP.Reflector = &config.Reflector{ClusterID: r.ClusterID}
	}
	return c
}

// Run takes the file in whenever it is asked to, and with reload: watch when it
// has changed, until ctx ends.
func (r *reloader) Run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var w fileWatch
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.asked:
			_ = r.reread(ctx) // it says so itself
		case <-look.C:
			if r.file != nil {
				w.look(ctx, r)
			}
		}
	}
}

// reread takes the file in as it is. What becomes of it is noted and logged.
func (r *reloader) reread(ctx context.Context) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	text, err := r.file.Text()
	return r.takeText(ctx, text, err)
}

// takeText takes the file's text in, or the error of its reading.
func (r *reloader) takeText(ctx context.Context, text []byte, err error) error {
	var next *config.Config
	if err == nil {
		r.seen = digestOf(text)
		next, err = r.file.Parse(text)
	}
	if err == nil {
		err = r.expand(next)
	}
	if err == nil {
		err = r.take(ctx, next)
	}
	if ctx.Err() != nil {
		return ctx.Err() // the agent stops, that is no fault of the file
	}
	r.note(err)
	if err != nil {
		r.log.Error("configuration not taken, the last good one stays", "err", err)
	} else {
		r.log.Info("configuration taken")
	}
	return err
}

// note keeps what became of the newest file.
func (r *reloader) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// errStale means that the file is not the one that an edit was made for.
var errStale = errors.New("the file was changed since it was read; read it again")

// change edits the file and takes it in: both or nothing. It returns the new
// text. A dry run only checks.
func (r *reloader) change(ctx context.Context, by, digest string, dry bool, edit func([]byte) ([]byte, error)) (old, text []byte, err error) {
	r.turn.Lock()
	defer r.turn.Unlock()
	if old, err = r.file.Text(); err != nil {
		return nil, nil, err
	}
	if digest != "" && digest != digestOf(old) {
		return nil, nil, errStale
	}
	if text, err = edit(old); err != nil {
		return nil, nil, err
	}
	next, err := r.file.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	if err := r.expand(next); err != nil {
		return nil, nil, err
	}
	if err := r.check(next); err != nil || dry {
		return old, text, err
	}
	draft, err := r.file.Draft(text)
	if err != nil {
		return nil, nil, err
	}
	if err := r.take(ctx, next); err != nil {
		return nil, nil, errors.Join(err, draft.Discard())
	}
	if err := draft.Keep(); err != nil {
		// What is in force is not in the file: that is a problem to be shown.
		r.note(err)
		return nil, nil, err
	}
	r.seen = digestOf(text)
	r.note(nil)
	r.log.Info("configuration taken", "by", by, "file", r.file.Path)
	return old, text, nil
}

// adjust changes the peers of the configuration in force, where look says so.
func (r *reloader) adjust(ctx context.Context, look func([]config.Peer) ([]config.Peer, bool)) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.mu.Lock()
	next := *r.last
	r.mu.Unlock()
	peers, changed := look(next.BGP.Peers)
	if !changed {
		return nil
	}
	next.BGP.Peers = peers
	return r.take(ctx, &next)
}

// digestOf tells two texts apart.
func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// errRestart means that the file changes what only a restart can.
var errRestart = errors.New("needs a restart of onlinkd, which keeps routes and pods")

// check refuses what a running agent cannot take.
func (r *reloader) check(next *config.Config) error {
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	if fixed := differing(reloadable(*last), reloadable(*next)); len(fixed) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(fixed, ", "), errRestart)
	}
	return nil
}

// take brings every part to a configuration.
func (r *reloader) take(ctx context.Context, next *config.Config) error {
	if err := r.check(next); err != nil {
		return err
	}
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	for i, a := range r.apply {
		if err := a.apply(ctx, next); err != nil {
			return r.back(ctx, i, last, fmt.Errorf("%s: %w", a.what, err))
		}
	}
	r.mu.Lock()
	r.last = next
	r.mu.Unlock()
	return nil
}

// back undoes the parts that were taken before one was refused.
func (r *reloader) back(ctx context.Context, n int, last *config.Config, err error) error {
	for _, a := range slices.Backward(r.apply[:n+1]) {
		if undo := a.apply(ctx, last); undo != nil {
			err = errors.Join(err, fmt.Errorf("return to the last good %s: %w", a.what, undo))
		}
	}
	return err
}

// peers returns the sessions that are in force.
func (r *reloader) peers() []config.Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last.BGP.Peers
}

// trouble returns why the newest file is not in force, nil when it is.
func (r *reloader) trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// differing names the keys of two configurations that differ.
func differing(a, b config.Config) []string {
	var keys []string
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		if !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			keys = append(keys, strings.ToLower(va.Type().Field(i).Name))
		}
	}
	return keys
}

// appliers are the parts of this agent that follow a changed file.
func (a *agent) appliers() []applier {
	return []applier{
		{"pools", a.applyPools},
		{"bgp.peers", a.applyPeers},
		{"bgp.peers bfd", func(_ context.Context, c *config.Config) error { return a.live.monitor.Set(bfdSessions(c.BGP.Peers)) }},
		{"bgp.originate", func(_ context.Context, c *config.Config) error {
			a.orig.configure(c.BGP.Originate, c.BGP.Aggregates())
			return nil
		}},
		{"cni.sysctls", func(_ context.Context, c *config.Config) error { a.cni.SetSysctls(c.CNI.Sysctls); return nil }},
	}
}

// applyPeers changes the sessions, and what their peers may make us install.
func (a *agent) applyPeers(ctx context.Context, c *config.Config) error {
	peers, dynamic, err := bgpPeers(c)
	if err != nil {
		return err
	}
	if err := a.speaker.SetPeers(ctx, peers, dynamic); err != nil {
		return err
	}
	return a.learn.do(ctx, func() {
		a.learn.peers = c.BGP.Peers
		a.learn.table.SetPermitted(a.learn.permit())
	})
}
