package pods

import (
	"net/netip"
	"sync"
)

// Routes carries pod routes from the CNI service to the learn loop. The latest
// change of an address wins; callers never wait for the loop. It implements
// cni.Routes.
type Routes struct {
	wake chan struct{} // cap 1; sent to by SetPod and DeletePod when it is empty, never closed

	mu      sync.Mutex
	pending map[netip.Prefix]string // device; "" withdraws; guarded by mu
}

// NewRoutes returns a Routes with nothing in it.
func NewRoutes() *Routes {
	return &Routes{wake: make(chan struct{}, 1), pending: map[netip.Prefix]string{}}
}

// SetPod sets the device of addr, which may not exist yet.
func (p *Routes) SetPod(addr netip.Prefix, dev string) { p.put(addr, dev) }

// DeletePod withdraws addr.
func (p *Routes) DeletePod(addr netip.Prefix) { p.put(addr, "") }

func (p *Routes) put(addr netip.Prefix, dev string) {
	p.mu.Lock()
	p.pending[addr] = dev
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Wake is received from by the learn loop: there is something to drain.
func (p *Routes) Wake() <-chan struct{} { return p.wake }

// Drain returns the changes since the last Drain: the device of each address; ""
// withdraws it.
func (p *Routes) Drain() map[netip.Prefix]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) == 0 {
		return nil
	}
	out := p.pending
	p.pending = map[netip.Prefix]string{}
	return out
}
