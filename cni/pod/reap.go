package pod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// reapBatch bounds how many veths go at once: the kernel holds the RTNL
	// lock for about half a millisecond for each, and ADD needs that lock too.
	reapBatch = 32
	// lastTimeout bounds the removals after the end of ctx.
	lastTimeout = 5 * time.Second
	// reapRetry is how long a failed removal rests.
	reapRetry = time.Second
)

// Reaper removes the veths of pods that DEL has disconnected. The kernel takes 16
// to 20 ms to remove an interface, nearly all of it waiting, and as long for 32
// of them. So DEL only takes the veth out of service, and is answered; the veths
// that gather while one group is removed are the next group. An attachment's
// addresses are released when its veth is gone, not before.
type Reaper struct {
	host *Host
	cfg  ReaperConfig
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	queue   []*ended          // guarded by mu
	pending map[string]*ended // by attachment's key: queue and the group in work; guarded by mu
	reaped  uint64            // guarded by mu
}

// ended is an attachment whose veth is to be removed.
type ended struct {
	attachment Attachment
	gone       chan struct{} // closed when veth and lease are gone
}

// ReaperConfig holds the steps that follow the removal of a veth.
type ReaperConfig struct {
	// Release releases the addresses of an attachment whose veth is gone.
	Release func(context.Context, Attachment) error
	// Forget ends the right of host devices to send from their MAC addresses.
	Forget func(devices ...string) error
	Log    *slog.Logger
}

// NewReaper returns a reaper of a host's veths; it works in [Reaper.Run].
func NewReaper(h *Host, cfg ReaperConfig) *Reaper {
	return &Reaper{host: h, cfg: cfg, wake: make(chan struct{}, 1), pending: map[string]*ended{}}
}

// Add queues an attachment that is out of service. No other call for it may be
// under way.
func (r *Reaper) Add(a Attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending[a.Key()] != nil {
		return
	}
	e := &ended{attachment: a, gone: make(chan struct{})}
	r.pending[a.Key()] = e
	r.queue = append(r.queue, e)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Has reports whether the attachment is queued and not yet removed.
func (r *Reaper) Has(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pending[key] != nil
}

// Counts returns how many attachments wait, and how many have ended.
func (r *Reaper) Counts() (pending int, reaped uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending), r.reaped
}

// Wait returns when the veth and the addresses of an attachment that was added
// before are gone.
func (r *Reaper) Wait(ctx context.Context, key string) error {
	r.mu.Lock()
	e := r.pending[key]
	r.mu.Unlock()
	if e == nil {
		return nil
	}
	return e.wait(ctx)
}

func (e *ended) wait(ctx context.Context) error {
	select {
	case <-e.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the removal of %s: %w", e.attachment.Key(), ctx.Err())
	}
}

// Flush returns when the veths and addresses of all attachments added before are
// gone.
func (r *Reaper) Flush(ctx context.Context) error {
	r.mu.Lock()
	all := make([]*ended, 0, len(r.pending))
	for _, e := range r.pending {
		all = append(all, e)
	}
	r.mu.Unlock()
	for _, e := range all {
		if err := e.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Run removes the added attachments until ctx is cancelled, and then once more
// the remaining ones. The next start of the agent removes those that are left
// after that.
func (r *Reaper) Run(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
			defer cancel()
			if err := r.reapAll(last); err != nil {
				r.cfg.Log.Warn("ended pods are left for the next start", "err", err)
			}
			return
		case <-r.wake:
		case <-retry.C:
		}
		if err := r.reapAll(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Log.Warn("failed to remove ended pods, retrying", "err", err)
			retry.Reset(reapRetry)
		}
	}
}

// reapAll removes groups until the queue is empty or one fails.
func (r *Reaper) reapAll(ctx context.Context) error {
	for {
		group := r.take()
		if len(group) == 0 {
			return nil
		}
		if left, err := r.reap(ctx, group); err != nil {
			r.mu.Lock()
			r.queue = append(left, r.queue...)
			r.mu.Unlock()
			return err
		}
	}
}

func (r *Reaper) take() []*ended {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.queue), reapBatch)
	group := r.queue[:n:n]
	r.queue = r.queue[n:]
	return group
}

// reap removes the veths of a group and then releases the addresses, all at once
// so that one commit serves them. It returns the attachments that could not be
// ended.
func (r *Reaper) reap(ctx context.Context, group []*ended) ([]*ended, error) {
	names := make([]string, len(group))
	for i, e := range group {
		names[i] = HostDevice(e.attachment.ContainerID, e.attachment.IfName)
	}
	if err := r.host.reaping.do(ctx, func(th *thread) error { return removeEnded(th, names) }); err != nil {
		return group, err
	}
	if err := r.cfg.Forget(names...); err != nil {
		return group, fmt.Errorf("remove MAC addresses: %w", err)
	}
	errs := make([]error, len(group))
	var releases errgroup.Group
	for i, e := range group {
		releases.Go(func() error {
			errs[i] = r.cfg.Release(ctx, e.attachment)
			return nil
		})
	}
	_ = releases.Wait() // each one's error is in errs
	var left []*ended
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range group {
		if errs[i] != nil {
			left = append(left, e)
			continue
		}
		r.reaped++
		delete(r.pending, e.attachment.Key())
		close(e.gone)
	}
	if err := errors.Join(errs...); err != nil {
		return left, fmt.Errorf("release addresses: %w", err)
	}
	return nil, nil
}
