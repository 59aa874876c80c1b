package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/fib"
	"onlink/internal/ours"
	"onlink/rib"
)

// inFresh runs f inside a new pair of namespaces, on the near side.
func inFresh(f func(p *pair) error) error {
	p, err := newPair()
	if err != nil {
		return err
	}
	defer p.close()
	return p.near.do(func() error { return f(p) })
}

// timeTable measures fib.Table from the first Set to the end of Apply.
func timeTable(ctx context.Context, routes []rib.Route, plain bool) (seconds float64, err error) {
	err = inFresh(func(*pair) error {
		t := fib.New(fib.Config{NoNexthopObjects: plain})
		if err := t.Open(); err != nil {
			return err
		}
		defer func() { _ = t.Close() }()
		t.AllowSweep()
		if _, err := t.Resync(ctx); err != nil {
			return err
		}
		begin := time.Now()
		for _, r := range routes {
			t.Set(r)
		}
		err := t.Apply(ctx)
		seconds = time.Since(begin).Seconds()
		return err
	})
	return seconds, err
}

// rtaNHID is RTA_NH_ID of linux/rtnetlink.h, which x/sys lacks.
const rtaNHID = 30

// batchRoutes is how many messages the bare writer sends at once.
const batchRoutes = 512

// timeBare measures the kernel's own limit: the same routes as prepared
// messages in batches, pointing at one nexthop object.
func timeBare(n int) (seconds float64, err error) {
	err = inFresh(func(p *pair) error {
		s, err := dialRoute()
		if err != nil {
			return err
		}
		defer s.close()
		link, err := p.near.link.LinkByName("up0")
		if err != nil {
			return err
		}
		const object = 1
		var m batch
		begin := time.Now()
		// struct nhmsg: family, scope, protocol, reserved, flags.
		m.begin(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE, unix.AF_INET, 0, ours.Protocol, 0, unix.RTNH_F_ONLINK, 0, 0, 0)
		m.attr32(unix.NHA_ID, object)
		m.attr32(unix.NHA_OIF, uint32(link.Attrs().Index)) //nolint:gosec // an interface index
		m.attr(unix.NHA_GATEWAY, gateway(0).AsSlice()...)
		for i := range n {
			a := block(i).Addr().As4()
			// struct rtmsg
			m.begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.AF_INET, blockBits, 0, 0,
				unix.RT_TABLE_MAIN, ours.Protocol, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0)
			m.attr(unix.RTA_DST, a[:]...)
			m.attr32(rtaNHID, object)
			if i%batchRoutes == batchRoutes-1 {
				if err := s.send(&m); err != nil {
					return err
				}
			}
		}
		if err := s.send(&m); err != nil {
			return err
		}
		seconds = time.Since(begin).Seconds()
		return nil
	})
	return seconds, err
}

// timeSingly measures one route at a time through the netlink package, as
// most agents write.
func timeSingly(n int) (seconds float64, err error) {
	err = inFresh(func(p *pair) error {
		link, err := p.near.link.LinkByName("up0")
		if err != nil {
			return err
		}
		gw := gateway(0).AsSlice()
		begin := time.Now()
		for i := range n {
			r := &netlink.Route{Dst: ipNet(block(i)), Gw: gw, LinkIndex: link.Attrs().Index, Protocol: ours.Protocol}
			if err := p.near.link.RouteReplace(r); err != nil {
				return err
			}
		}
		seconds = time.Since(begin).Seconds()
		return nil
	})
	return seconds, err
}

// writerFigures: routes into an empty kernel table.
func writerFigures(ctx context.Context, r *run) error {
	for _, size := range []struct {
		n    int
		name string
	}{{1000, "1k"}, {10_000, "10k"}, {100_000, "100k"}} {
		routes := decided(size.n, 1)
		var ours, bare, singly, rate samples
		err := r.rounds(ctx,
			func(ctx context.Context) error {
				s, err := timeTable(ctx, routes, false)
				ours, rate = append(ours, s), append(rate, float64(size.n)/s)
				return err
			},
			func(context.Context) error { s, err := timeBare(size.n); bare = append(bare, s); return err },
			func(context.Context) error {
				s, err := timeSingly(size.n)
				singly = append(singly, float64(size.n)/s)
				return err
			})
		if err != nil {
			return err
		}
		r.report("fib.writer_"+size.name, "s", ours, versus{name: "bare batched writer", samples: bare})
		r.report("fib.routes_"+size.name, "routes/s", rate, versus{name: "netlink package, one at a time", samples: singly})
	}
	return nil
}

// nodesFigure: four blocks of each of 5,000 nodes.
func nodesFigure(ctx context.Context, r *run) error {
	routes := decided(20_000, 5000)
	var ours, plain samples
	err := r.rounds(ctx,
		func(ctx context.Context) error {
			s, err := timeTable(ctx, routes, false)
			ours = append(ours, s)
			return err
		},
		func(ctx context.Context) error {
			s, err := timeTable(ctx, routes, true)
			plain = append(plain, s)
			return err
		})
	if err != nil {
		return err
	}
	r.report("fib.nodes5000", "s", ours, versus{name: "the same with plain gateways", samples: plain})
	return nil
}

// resyncFigure: 100,000 unchanged routes over 1,000 next hops read back.
func resyncFigure(ctx context.Context, r *run) error {
	routes := decided(100_000, 1000)
	var own, listed, bare samples
	err := inFresh(func(*pair) error {
		t := fib.New(fib.Config{})
		if err := t.Open(); err != nil {
			return err
		}
		defer func() { _ = t.Close() }()
		t.AllowSweep()
		for _, route := range routes {
			t.Set(route)
		}
		if err := t.Apply(ctx); err != nil {
			return err
		}
		written := t.Stats()
		err := r.rounds(ctx,
			func(ctx context.Context) error {
				begin := time.Now()
				_, err := t.Resync(ctx)
				own = append(own, time.Since(begin).Seconds())
				return err
			},
			func(context.Context) error {
				begin := time.Now()
				got, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Protocol: ours.Protocol}, netlink.RT_FILTER_PROTOCOL)
				listed = append(listed, time.Since(begin).Seconds())
				if err == nil && len(got) != len(routes) {
					err = fmt.Errorf("dump shows %d routes, want %d", len(got), len(routes))
				}
				return err
			},
			func(context.Context) error { s, err := timeDump(len(routes)); bare = append(bare, s); return err })
		if s := t.Stats(); err == nil && (s.Added != written.Added || s.Changed != written.Changed || s.Deleted != written.Deleted) {
			err = errors.New("a resync of unchanged routes wrote to the kernel")
		}
		return err
	})
	if err != nil {
		return err
	}
	r.report("fib.resync_100k", "s", own, versus{name: "RouteListFiltered", samples: listed})
	r.report("fib.resync_dump_100k", "s", own, versus{name: "bare dump, filtered by the kernel", samples: bare})
	return nil
}

// timeDump measures the kernel's own limit of reading n routes: a dump that
// the kernel filters, of which only the messages are counted.
func timeDump(n int) (seconds float64, err error) {
	s, err := dialRoute()
	if err != nil {
		return 0, err
	}
	defer s.close()
	// The kernel filters for protocol and table only when asked to be strict.
	if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		return 0, fmt.Errorf("set up netlink: %w", err)
	}
	begin := time.Now()
	var m batch
	m.begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, ours.Protocol, 0, 0, 0, 0, 0, 0)
	m.finish()
	if err := unix.Sendto(s.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	for got := 0; ; {
		size, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if err != nil {
			return 0, fmt.Errorf("receive: %w", err)
		}
		for b := s.buf[:size]; len(b) >= 16; b = b[min(len(b), int(binary.NativeEndian.Uint32(b)+3)&^3):] {
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.RTM_NEWROUTE:
				got++
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if got != n {
					return 0, fmt.Errorf("bare dump shows %d routes, want %d", got, n)
				}
				return time.Since(begin).Seconds(), nil
			}
		}
	}
}
