package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteMonitor is `ip monitor route` in a namespace: what its kernel did to
// routes while something else happened. Table local is left out: it follows
// addresses, whose duplicate detection (RFC 4862) ends when it likes.
type RouteMonitor struct {
	ns   *NS
	log  string
	proc *Process
}

// The route that marks where a [RouteMonitor]'s output begins and ends, in a
// table nobody looks at.
var markRoute = netip.MustParsePrefix("192.0.2.255/32")

const markTable = 4711

// markTime bounds how long ip may take to tell a route.
const markTime = 30 * time.Second

// MonitorRoutes starts ip with its output in the file log; it listens when the
// method returns.
func (ns *NS) MonitorRoutes(ctx context.Context, log string) (*RouteMonitor, error) {
	p, err := start(ns, "ip monitor in "+ns.Name, log, "ip", "monitor", "route")
	if err != nil {
		return nil, err
	}
	m := &RouteMonitor{ns: ns, log: log, proc: p}
	if err := m.mark(ctx); err != nil {
		return nil, fmt.Errorf("start ip monitor in %s: %w", ns.Name, err)
	}
	return m, nil
}

// mark makes the marking route and takes it away until ip has told one more.
func (m *RouteMonitor) mark(ctx context.Context) error {
	before, err := m.marks()
	if err != nil {
		return err
	}
	r := &netlink.Route{Dst: ipNet(markRoute), Table: markTable, Type: unix.RTN_BLACKHOLE, Protocol: unix.RTPROT_STATIC}
	return Eventually(ctx, markTime, "ip tells a route", func() error {
		if err := m.ns.Link.RouteAdd(r); err != nil {
			return err
		}
		if err := m.ns.Link.RouteDel(r); err != nil {
			return err
		}
		now, err := m.marks()
		if err == nil && now == before {
			err = fmt.Errorf("%d times told", now)
		}
		return err
	})
}

// marks counts what ip told of the marking route.
func (m *RouteMonitor) marks() (int, error) {
	text, err := os.ReadFile(m.log)
	return strings.Count(string(text), markRoute.Addr().String()), err
}

// Stop ends ip and returns its lines, one a changed route.
func (m *RouteMonitor) Stop(ctx context.Context) ([]string, error) {
	// What happened before this mark is told before it.
	if err := m.mark(ctx); err != nil {
		return nil, fmt.Errorf("stop ip monitor in %s: %w", m.ns.Name, err)
	}
	if err := m.proc.Stop(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(m.log)
	if err != nil {
		return nil, fmt.Errorf("read ip monitor in %s: %w", m.ns.Name, err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, markRoute.Addr().String()) && !strings.Contains(line, " table local ") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out, nil
}
