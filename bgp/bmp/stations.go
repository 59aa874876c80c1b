package bmp

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// Stations keeps the connections to the configured stations.
type Stations struct {
	cfg     Config
	changed chan struct{} // has room for one signal: want is another one

	mu      sync.Mutex // guards all below
	want    []Settings
	running map[string]*running // by name
}

// running is a station with its goroutine.
type running struct {
	*station

	stop  context.CancelCauseFunc
	ended chan struct{}
}

// New returns the stations of a node. They begin with [Stations.Run].
func New(c Config) *Stations {
	c.retry, c.write = cmp.Or(c.retry, firstRetry), cmp.Or(c.write, WriteTime)
	s := &Stations{cfg: c, changed: make(chan struct{}, 1), running: map[string]*running{}}
	s.Set(c.Stations)
	return s
}

// Set replaces the stations. Those that stay as they are keep their connections.
func (s *Stations) Set(list []Settings) {
	s.mu.Lock()
	s.want = list
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run connects to the stations until ctx ends, and ends the connections then.
func (s *Stations) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			s.reconcile(ctx, nil)
			return nil
		case <-s.changed:
			s.mu.Lock()
			want := s.want
			s.mu.Unlock()
			s.reconcile(ctx, want)
		}
	}
}

// reconcile ends the stations that are not wanted as they are, waits until they have
// ended, so that a collector sees the end of one connection before the next, and starts
// those that are missing.
func (s *Stations) reconcile(ctx context.Context, want []Settings) {
	byName := map[string]*Settings{}
	for i := range want {
		byName[want[i].Name] = &want[i]
	}
	var ending []*running
	for _, r := range s.list() {
		switch next := byName[r.set.Name]; {
		case next == nil && ctx.Err() == nil:
			r.stop(errRemoved)
		case next == nil || !r.set.equal(next):
			// At the agent's end as well: ctx reaches its children after it has ended, and
			// a collector would be told that no connection will follow.
			r.stop(nil)
		default:
			delete(byName, r.set.Name)
			continue
		}
		ending = append(ending, r)
	}
	for _, r := range ending {
		<-r.ended
		s.forget(r)
	}
	for _, set := range byName {
		s.start(ctx, set)
	}
}

func (s *Stations) start(ctx context.Context, set *Settings) {
	ctx, stop := context.WithCancelCause(ctx)
	r := &running{station: newStation(&s.cfg, set), stop: stop, ended: make(chan struct{})}
	s.mu.Lock()
	s.running[set.Name] = r
	s.mu.Unlock()
	go func() {
		defer close(r.ended)
		r.run(ctx)
	}()
}

func (s *Stations) forget(r *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, r.set.Name)
}

func (s *Stations) list() []*running {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*running, 0, len(s.running))
	for _, r := range s.running {
		list = append(list, r)
	}
	return list
}

// Status returns the state of the stations, in the order of the configuration.
func (s *Stations) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.want))
	for i := range s.want {
		set := &s.want[i]
		if r := s.running[set.Name]; r != nil && r.set.equal(set) {
			list = append(list, r.state())
		} else {
			list = append(list, Status{Settings: *set, Since: time.Now()})
		}
	}
	return list
}
