package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	"onlink/agent/config"
)

// reloader takes a changed configuration into the running agent. Whatever is
// wrong with the new one, the agent goes on with the last good one; a session
// that the change does not name is not touched.
type reloader struct {
	log   *slog.Logger
	load  func() (*config.Config, error) // reads the file again
	asked <-chan struct{}                // one receive: load now
	apply []applier                      // in this order

	mu   sync.Mutex // guards all below
	last *config.Config
	took int   // configurations taken since the start
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
	c.BGP.Peers, c.BGP.Originate, c.BGP.Filters = nil, nil, nil
	c.Pools, c.Node.Labels = nil, nil
	if r := c.BGP.Reflector; r != nil {
		c.BGP.Reflector = &config.Reflector{ClusterID: r.ClusterID}
	}
	return c
}

// Run takes the file in whenever it is asked to, until ctx ends.
func (r *reloader) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.asked:
		}
		err := r.round(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the agent stops, that is no fault of the file
		}
		r.mu.Lock()
		if r.err = err; err == nil {
			r.took++
		}
		r.mu.Unlock()
		if err != nil {
			r.log.Error("configuration not taken, the last good one stays", "err", err)
		} else {
			r.log.Info("configuration taken")
		}
	}
}

// errRestart means that the file changes what only a restart can.
var errRestart = errors.New("needs a restart of onlinkd, which keeps routes and pods")

// round reads the file and brings every part to it.
func (r *reloader) round(ctx context.Context) error {
	next, err := r.load()
	if err != nil {
		return err
	}
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	if fixed := differing(reloadable(*last), reloadable(*next)); len(fixed) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(fixed, ", "), errRestart)
	}
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

// state returns how many configurations were taken, and why the newest file
// is not in force.
func (r *reloader) state() (took int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.took, r.err
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
		{"bgp.originate", func(_ context.Context, c *config.Config) error { a.orig.setExtra(c.BGP.Originate); return nil }},
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
		a.learn.table.SetPermitted(permitted(a.learn.peers, a.watch.Subnets()))
	})
}
