package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"onlink/agent/config"
)

// Part is one part of the agent, and the keys of the file that are its own.
type Part struct {
	Name string // for messages
	// Keys are as in the file: bgp.peers. A key covers all keys below it that no
	// other part names. A part may read other keys, which belong to other parts:
	// all parts are applied to every change.
	Keys []string
	// Check refuses a change that Apply cannot make, before any part is applied.
	// Nil: there is none.
	Check func(last, next *config.Effective) error
	// Apply brings the part to a configuration from any state, also from half way,
	// and so undoes as well. It changes nothing when the error is a mistake of the
	// operator. Nil: a change of the keys needs a restart.
	Apply func(ctx context.Context, next *config.Effective) error
}

// Live is the Apply of keys whose readers call [Reloader.Current] every time.
func Live(context.Context, *config.Effective) error { return nil }

// Parts is the table of an agent's parts, in the order in which they are
// applied. Every key of the configuration has exactly one ([Parts.Owners]).
type Parts []Part

// Owners returns the names of the parts that a key belongs to: those that name
// it, or else the section around it that is named. A good table has one for
// every key of [config.Keys].
func (ps Parts) Owners(key string) []string {
	for ; key != ""; key = key[:max(0, strings.LastIndexByte(key, '.'))] {
		var names []string
		for _, p := range ps {
			if slices.Contains(p.Keys, key) {
				names = append(names, p.Name)
			}
		}
		if len(names) > 0 {
			return names
		}
	}
	return nil
}

// changeable reports whether a running agent can change a key. A key of no part
// needs a restart: a forgotten key must not be accepted and then ignored.
func (ps Parts) changeable(key string) bool {
	owners := ps.Owners(key)
	return len(owners) > 0 && !slices.ContainsFunc(ps, func(p Part) bool { return p.Apply == nil && slices.Contains(owners, p.Name) })
}

// check rejects changes that need a restart.
func (ps Parts) check(last, next *config.Effective) error {
	var fixed []string
	for _, key := range config.Diff(&last.Config, &next.Config) {
		around := func(section string) bool { return strings.HasPrefix(key, section+".") }
		if !ps.changeable(key) && !slices.ContainsFunc(fixed, around) {
			fixed = append(fixed, key)
		}
	}
	if len(fixed) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(fixed, ", "), ErrRestart)
	}
	for _, p := range ps {
		if p.Check == nil {
			continue
		}
		if err := p.Check(last, next); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return nil
}

// apply brings every part to next, or all of them back to last, after undo: a part
// that goes back reads the files of the last configuration.
func (ps Parts) apply(ctx context.Context, last, next *config.Effective, undo func() error) error {
	for i, p := range ps {
		if p.Apply == nil {
			continue
		}
		if err := p.Apply(ctx, next); err != nil {
			err = fmt.Errorf("%s: %w", p.Name, err)
			if undo != nil {
				err = errors.Join(err, undo())
			}
			return ps[:i+1].back(ctx, last, err)
		}
	}
	return nil
}

// back undoes the parts that were applied before one failed, and the changes of
// that one.
func (ps Parts) back(ctx context.Context, last *config.Effective, err error) error {
	for _, p := range slices.Backward(ps) {
		if p.Apply == nil {
			continue
		}
		if undo := p.Apply(ctx, last); undo != nil {
			err = errors.Join(err, fmt.Errorf("return to the last good %s: %w", p.Name, undo))
		}
	}
	return err
}
