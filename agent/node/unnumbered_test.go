package node

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"onlink/agent/config"
)

// routers counts the searches.
type routers struct {
	current  atomic.Pointer[config.Effective]
	renewed  atomic.Pointer[chan struct{}]
	searches atomic.Int32
}

func (r *routers) Current() *config.Effective { return r.current.Load() }
func (r *routers) Renewed() <-chan struct{}   { return *r.renewed.Load() }
func (r *routers) SetRouters(context.Context, func(*config.Effective) map[string]netip.Addr) error {
	r.searches.Add(1)
	return nil
}

// TestUnnumberedRests: nothing is searched for while the configuration names no
// interface, and one that it names later is searched on.
func TestUnnumberedRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &routers{}
		r.renewed.Store(new(make(chan struct{})))
		r.current.Store(effective(t, "bgp: {peers: [{name: leaf, address: 10.0.0.1, asn: 65001}]}"))
		u := &Unnumbered{Log: slog.New(slog.DiscardHandler), Config: r}
		ended := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() { ended <- u.Run(ctx) }()
		time.Sleep(time.Hour)
		if n := r.searches.Load(); n != 0 {
			t.Errorf("%d searches for peers with addresses", n)
		}
		r.current.Store(effective(t, "bgp: {peers: [{name: leaf, interface: eth1, asn: 65001}]}"))
		close(*r.renewed.Swap(new(make(chan struct{}))))
		time.Sleep(10*unnumberedEvery + unnumberedEvery/2)
		if n := r.searches.Load(); n < 10 {
			t.Errorf("%d searches in ten intervals", n)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
