// Package namespaces keeps the pools that namespaces have their addresses from, as
// an operator or a cluster sent them ahead of the pods: a pod that starts waits for
// no other program. They outlive restarts.
package namespaces

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"onlink/internal/atomicfile"
)

// ErrInvalid means that a choice cannot be kept.
var ErrInvalid = errors.New("invalid choice of pools")

// Bounds of all choices.
const (
	maxNamespaces = 20000
	maxPools      = 64  // of one namespace
	maxName       = 253 // bytes
)

// fileName is the file in paths.state.
const fileName = "namespaces"

// Choice is the pools of one namespace.
type Choice struct {
	Namespace string
	Pools     []string // names, in the order in which addresses are taken from them
}

// Pool is a pool as far as a choice depends on it.
type Pool struct {
	Name string
	Open bool // addresses are taken from it on this node
}

// Choices are the choices in force. Make them with [Open]. Their methods may be
// called by any goroutine.
type Choices struct {
	path  string
	pools func() []Pool

	turn  sync.Mutex // held while the choices are replaced
	state atomic.Pointer[kept]
}

// kept is never changed after it is stored: ADD reads it without a lock.
type kept struct {
	pools   map[string][]string // by namespace
	named   map[string]string   // every pool, with a namespace that chose it
	problem string              // of the file at the start
}

// Open reads the choices that were in force when the agent last ran. pools returns
// those of the configuration in force. A damaged file is moved aside, and is a
// problem.
func Open(state string, pools func() []Pool) (*Choices, error) {
	c := &Choices{path: filepath.Join(state, fileName), pools: pools}
	text, err := os.ReadFile(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the pools of namespaces: %w", err)
	}
	found := map[string][]string{}
	problem := ""
	if err == nil {
		if err := json.Unmarshal(text, &found); err != nil {
			aside := c.path + ".damaged"
			if err := os.Rename(c.path, aside); err != nil {
				return nil, fmt.Errorf("move the damaged pools of namespaces aside: %w", err)
			}
			found = map[string][]string{}
			problem = fmt.Sprintf("namespaces: %s was damaged (%v) and is now %s: every namespace has the default pools until its choice is sent again", c.path, err, aside)
		}
	}
	c.keep(found, problem)
	return c, nil
}

func (c *Choices) keep(pools map[string][]string, problem string) {
	k := &kept{pools: pools, named: map[string]string{}, problem: problem}
	for _, namespace := range slices.Sorted(maps.Keys(pools)) {
		for _, p := range pools[namespace] {
			if _, ok := k.named[p]; !ok {
				k.named[p] = namespace
			}
		}
	}
	c.state.Store(k)
}

// Set replaces all choices; one without pools is none. The error may be
// [ErrInvalid]: then nothing has changed.
func (c *Choices) Set(list []Choice) error {
	if len(list) > maxNamespaces {
		return fmt.Errorf("%w: %d namespaces, and at most %d are kept", ErrInvalid, len(list), maxNamespaces)
	}
	pools := make(map[string][]string, len(list))
	for i, one := range list {
		if err := one.check(); err != nil {
			return fmt.Errorf("namespaces[%d]: %w", i, err)
		}
		if _, twice := pools[one.Namespace]; twice {
			return fmt.Errorf("namespaces[%d]: %w: %q is in the list twice", i, ErrInvalid, one.Namespace)
		}
		pools[one.Namespace] = slices.Clone(one.Pools)
	}
	maps.DeleteFunc(pools, func(_ string, p []string) bool { return len(p) == 0 })
	text, err := json.Marshal(pools) // keys are sorted: the same choices are the same file
	if err != nil {
		return err
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	if err := atomicfile.Replace(c.path, text, 0o600); err != nil {
		return fmt.Errorf("write the pools of namespaces: %w", err)
	}
	c.keep(pools, "")
	return nil
}

func (one Choice) check() error {
	switch {
	case !isName(one.Namespace):
		return fmt.Errorf("%w: %.300q is no name of a namespace", ErrInvalid, one.Namespace)
	case len(one.Pools) > maxPools:
		return fmt.Errorf("%w: %q has %d pools, and at most %d are kept", ErrInvalid, one.Namespace, len(one.Pools), maxPools)
	}
	for i, p := range one.Pools {
		if !isName(p) {
			return fmt.Errorf("%w: %q: %.300q is no name of a pool", ErrInvalid, one.Namespace, p)
		}
		if slices.Contains(one.Pools[:i], p) {
			return fmt.Errorf("%w: %q has the pool %q twice", ErrInvalid, one.Namespace, p)
		}
	}
	return nil
}

// isName reports whether a text can be printed as one word.
func isName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd })
}

// Of returns the pools that a pod of a namespace has its addresses from; nil: the
// namespace has no choice. Pools that do not exist are left out, and those that are
// closed on this node, unless all of its pools are.
func (c *Choices) Of(namespace string) []string {
	chosen := c.state.Load().pools[namespace]
	if len(chosen) == 0 {
		return nil
	}
	present := c.pools()
	var exist, open []string
	for _, name := range chosen {
		i := slices.IndexFunc(present, func(p Pool) bool { return p.Name == name })
		if i < 0 {
			continue
		}
		exist = append(exist, name)
		if present[i].Open {
			open = append(open, name)
		}
	}
	if len(open) == 0 {
		return exist // ADD fails, with the pool's state as the reason
	}
	return open
}

// List returns the choices, sorted by namespace.
func (c *Choices) List() []Choice {
	k := c.state.Load()
	out := make([]Choice, 0, len(k.pools))
	for _, n := range slices.Sorted(maps.Keys(k.pools)) {
		out = append(out, Choice{n, k.pools[n]})
	}
	return out
}

// shown bounds the pools that a problem names.
const shown = 3

// Problems returns the problems for the operator, one line each with the remedy.
func (c *Choices) Problems() []string {
	k := c.state.Load()
	var out []string
	if k.problem != "" {
		out = append(out, k.problem)
	}
	unknown := maps.Clone(k.named)
	for _, p := range c.pools() {
		delete(unknown, p.Name)
	}
	if len(unknown) == 0 {
		return out
	}
	names := slices.Sorted(maps.Keys(unknown))
	var examples []string
	for _, p := range names[:min(len(names), shown)] {
		examples = append(examples, fmt.Sprintf("%s (of namespace %s)", p, unknown[p]))
	}
	if more := len(names) - shown; more > 0 {
		examples = append(examples, fmt.Sprintf("%d more", more))
	}
	return append(out, fmt.Sprintf("namespaces: pools that do not exist are chosen and left out: %s; add them, or correct the choice (onlinkctl namespaces)", strings.Join(examples, ", ")))
}
