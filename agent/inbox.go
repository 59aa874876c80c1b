package agent

import (
	"net/netip"
	"sync"
)

// podRoutes carries pod routes from the CNI service to the learn loop. The
// latest word on an address wins; nobody ever waits for the loop. It
// implements cni.Routes.
type podRoutes struct {
	wake chan struct{} // cap 1; sent to by SetPod and DeletePod when it is empty, never closed

	mu      sync.Mutex
	pending map[netip.Prefix]string // device; "" withdraws; guarded by mu
}

func newPodRoutes() *podRoutes {
	return &podRoutes{wake: make(chan struct{}, 1), pending: map[netip.Prefix]string{}}
}

// SetPod says that addr lives behind dev, which may not exist yet.
func (p *podRoutes) SetPod(addr netip.Prefix, dev string) { p.put(addr, dev) }

// DeletePod says that addr is gone.
func (p *podRoutes) DeletePod(addr netip.Prefix) { p.put(addr, "") }

func (p *podRoutes) put(addr netip.Prefix, dev string) {
	p.mu.Lock()
	p.pending[addr] = dev
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// drain returns what changed since the last drain.
func (p *podRoutes) drain() map[netip.Prefix]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) == 0 {
		return nil
	}
	out := p.pending
	p.pending = map[netip.Prefix]string{}
	return out
}
