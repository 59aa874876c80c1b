package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

const (
	// reapBatch bounds how many veths go at once: the kernel holds the RTNL
	// lock for about half a millisecond for each, and ADD needs that lock too.
	reapBatch = 32
	// reapRetry is how long a failed removal rests.
	reapRetry = time.Second
)

// reaper removes the veths of pods that DEL has disconnected. The kernel takes
// 16 to 20 ms to remove an interface, nearly all of it waiting, and as long for
// 32 of them. So DEL only takes the veth out of service, and is answered; what
// gathers while one group is removed is the next group. An attachment's
// addresses are released when its veth is gone, not before.
type reaper struct {
	threads *threads // of its own: removals must not keep ADDs waiting
	release func(context.Context, Attachment) error
	senders Senders
	log     *slog.Logger
	wake    chan struct{} // capacity 1

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

func newReaper(t *threads, cfg Config) *reaper {
	return &reaper{
		threads: t, release: cfg.IPAM.Release, senders: cfg.Senders, log: cfg.Log,
		wake: make(chan struct{}, 1), pending: map[string]*ended{},
	}
}

// add queues an attachment. The caller holds its lock.
func (r *reaper) add(a Attachment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending[a.key()] != nil {
		return
	}
	e := &ended{attachment: a, gone: make(chan struct{})}
	r.pending[a.key()] = e
	r.queue = append(r.queue, e)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// has reports whether the attachment waits for its end.
func (r *reaper) has(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pending[key] != nil
}

// counts returns how many attachments wait, and how many have ended.
func (r *reaper) counts() (pending int, reaped uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending), r.reaped
}

// wait returns when nothing is left of an attachment that was added before.
func (r *reaper) wait(ctx context.Context, key string) error {
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
		return fmt.Errorf("wait for the removal of %s: %w", e.attachment.key(), ctx.Err())
	}
}

// flush returns when nothing is left of all attachments added before.
func (r *reaper) flush(ctx context.Context) error {
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

// run removes what is added until ctx is cancelled, and then once more what is
// left. What that does not reach the next start of the agent will find.
func (r *reaper) run(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
			defer cancel()
			if err := r.reapAll(last); err != nil {
				r.log.Warn("ended pods are left for the next start", "error", err)
			}
			return
		case <-r.wake:
		case <-retry.C:
		}
		if err := r.reapAll(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("ended pods not removed, will try again", "error", err)
			retry.Reset(reapRetry)
		}
	}
}

// reapAll removes groups until the queue is empty or one fails.
func (r *reaper) reapAll(ctx context.Context) error {
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

func (r *reaper) take() []*ended {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.queue), reapBatch)
	group := r.queue[:n:n]
	r.queue = r.queue[n:]
	return group
}

// reap removes the veths of a group and then releases the addresses, all at
// once so that one commit serves them. It returns what could not be ended.
func (r *reaper) reap(ctx context.Context, group []*ended) ([]*ended, error) {
	names := make([]string, len(group))
	for i, e := range group {
		names[i] = HostDevice(e.attachment.ContainerID, e.attachment.IfName)
	}
	if err := r.threads.do(ctx, func(th *thread) error { return removeEnded(th, names) }); err != nil {
		return group, err
	}
	if err := r.senders.Forget(names...); err != nil {
		return group, fmt.Errorf("forget MAC addresses: %w", err)
	}
	errs := make([]error, len(group))
	var releases errgroup.Group
	for i, e := range group {
		releases.Go(func() error {
			errs[i] = r.release(ctx, e.attachment)
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
		delete(r.pending, e.attachment.key())
		close(e.gone)
	}
	if err := errors.Join(errs...); err != nil {
		return left, fmt.Errorf("release addresses: %w", err)
	}
	return nil, nil
}

// removeEnded removes the veths with these host ends in one operation. They
// are named, not numbered: a number may be another interface's by now, but the
// name is the attachment's own, and no ADD of it begins before this is done.
// What is absent is removed already.
func removeEnded(th *thread, names []string) error {
	m := rtnl.Batch{}
	for _, name := range names {
		m.Add("set group of "+name, unix.RTM_NEWLINK, 0)
		m.Link(rtnl.Link{})
		m.AttrString(unix.IFLA_IFNAME, name)
		m.AttrUint32(unix.IFLA_GROUP, ours.PodRemoving)
	}
	m.Add("remove ended veths", unix.RTM_DELLINK, 0)
	m.Link(rtnl.Link{})
	m.AttrUint32(unix.IFLA_GROUP, ours.PodRemoving)
	return dropErrors(th.host.exec(&m), func(e *rtnl.Error) bool { return e.Errno == unix.ENODEV })
}

// retireDevice takes an attachment's veth out of service: the host end goes
// down, and with it every route to the pod, and the pod's end loses its
// carrier. It reports whether there was one.
func retireDevice(th *thread, a Attachment) (bool, error) {
	name := HostDevice(a.ContainerID, a.IfName)
	link, err := findLink(th.links, name)
	if err != nil || link == nil {
		return false, err
	}
	if !isOurs(link) {
		return false, foreignDevice(link)
	}
	m := rtnl.Batch{}
	m.Add("take "+name+" out of service", unix.RTM_NEWLINK, 0)
	m.Link(rtnl.Link{Index: int32(link.Attrs().Index), Change: unix.IFF_UP})
	m.AttrUint32(unix.IFLA_GROUP, ours.PodEnded)
	if alias := a.alias(); link.Attrs().Alias != alias && len(alias) <= aliasMax { // a crashed ADD's; a restarted agent reads whose it is
		m.AttrString(unix.IFLA_IFALIAS, alias)
	}
	err = th.host.exec(&m)
	if errors.Is(err, unix.ENODEV) { // its namespace ended just now
		return false, nil
	}
	return err == nil, err
}
