package cni

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"onlink/cni/pod"
)

const (
	// tendWait gathers the changes of many devices for one check of all of them.
	tendWait = time.Second
	// tendRetry is how long a device rests that could not be mended.
	tendRetry = 5 * time.Second
	// tendLock bounds the wait for an attachment that an ADD or a DEL works on.
	tendLock = time.Second
	// toldFor is how long status shows a device after it was mended.
	toldFor = 5 * time.Minute
)

// tender keeps the host ends of running pods as ADD made them: another program
// may set one down, take it out of its group, or rename it, and without the
// tender it would stay so as long as the pod runs.
type tender struct {
	cfg   *Config
	pods  *connector
	looks chan struct{} // cap 1; sent to by look, never closed

	mu     sync.Mutex
	found  map[string]finding // by host device; guarded by mu
	mended uint64             // guarded by mu
}

func newTender(cfg *Config, pods *connector) *tender {
	return &tender{cfg: cfg, pods: pods, looks: make(chan struct{}, 1)}
}

// finding is a fault of a pod's host end.
type finding struct {
	pod  string
	what string
	at   time.Time
	err  error // why it could not be mended; nil: mended
}

// look has the host ends of all pods checked soon; see [Server.Look].
func (t *tender) look() {
	select {
	case t.looks <- struct{}{}:
	default:
	}
}

// run checks the host ends after each look, until ctx ends.
func (t *tender) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	soon := false // a check follows within tendWait
	var told string
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.looks:
			if !soon { // else devices that come and go all the time would delay it for ever
				soon = true
				timer.Reset(tendWait)
			}
			continue
		case <-timer.C:
		}
		soon = false
		err := t.tendAll(ctx)
		if err == nil || ctx.Err() != nil {
			told = ""
			continue
		}
		timer.Reset(tendRetry)
		if text := err.Error(); text != told {
			told = text
			t.cfg.Log.Warn("failed to repair devices of pods, retrying", "err", err)
		}
	}
}

// tendAll checks the host end of every attachment and mends the faulty ones.
func (t *tender) tendAll(ctx context.Context) error {
	faulty, err := t.pods.host.Faulty(ctx, t.cfg.IPAM.Attachments())
	if err != nil {
		return err
	}
	var errs []error
	ill := map[string]bool{}
	for _, a := range faulty {
		device := pod.HostDevice(a.ContainerID, a.IfName)
		ill[device] = true
		if err := t.mend(ctx, a, device); err != nil {
			errs = append(errs, err)
		}
	}
	t.keep(ill)
	return errors.Join(errs...)
}

// mend checks one host end again while no ADD or DEL works on it, and restores
// it.
func (t *tender) mend(ctx context.Context, a Attachment, device string) error {
	waiting, cancel := context.WithTimeout(ctx, tendLock)
	defer cancel()
	unlock, err := t.pods.locks.lock(waiting, a.Key())
	if err != nil {
		return fmt.Errorf("check %s: %w", device, err)
	}
	defer unlock()
	lease, held := t.cfg.IPAM.Lookup(a)
	if !held || t.pods.reaper.Has(a.Key()) {
		return nil
	}
	what, err := t.pods.host.Mend(ctx, t.pods.wiring(a, lease.Addresses))
	if what == "" {
		return err
	}
	t.note(device, finding{pod: a.Namespace + "/" + a.Pod, what: what, at: time.Now(), err: err})
	if err != nil {
		return fmt.Errorf("host end %s of pod %s/%s %s: %w", device, a.Namespace, a.Pod, what, err)
	}
	t.cfg.Log.Warn("repaired a pod's host end", "namespace", a.Namespace, "pod", a.Pod, "device", device, "it", what)
	return nil
}

// note records the finding of a device.
func (t *tender) note(device string, f finding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found == nil {
		t.found = map[string]finding{}
	}
	t.found[device] = f
	if f.err == nil {
		t.mended++
	}
}

// keep drops old findings, and those of devices that are right again without our
// work.
func (t *tender) keep(ill map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for device, f := range t.found {
		if f.err != nil && !ill[device] {
			delete(t.found, device)
		}
	}
}

// problems returns the faults of the host ends of pods, and those mended in the
// last minutes.
func (t *tender) problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for device, f := range t.found {
		age := time.Since(f.at).Truncate(time.Second)
		switch {
		case f.err != nil:
			out = append(out, fmt.Sprintf("pod %s: its host end %s %s: %v", f.pod, device, f.what, f.err))
		case age < toldFor:
			out = append(out, fmt.Sprintf("pod %s: its host end %s %s by another program %s ago; it was repaired", f.pod, device, f.what, age))
		default:
			delete(t.found, device)
		}
	}
	return out
}

// count returns how often a host end was mended.
func (t *tender) count() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mended
}
