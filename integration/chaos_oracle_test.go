package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// pairs selects the witnesses, by their nodes, that may miss each other.
type pairs func(a, b *lab.Node) bool

// window is a time in which pairs may miss each other.
type window struct {
	harm     string
	from, to time.Time
	pairs    pairs
}

func (w window) covers(l lab.Lost) bool {
	return !l.At.Before(w.from) && l.At.Before(w.to) && w.pairs(l.From.Node, l.To.Node)
}

// of are the pairs with a witness on a node.
func of(n *lab.Node) pairs { return func(a, b *lab.Node) bool { return a == n || b == n } }

// between are the pairs of a rack and the other one.
func between(rack int) pairs {
	return func(a, b *lab.Node) bool { return (a.Rack == rack) != (b.Rack == rack) }
}

// losing does something during which, and until back later, pairs may miss each other.
func (c *chaos) losing(what string, p pairs, back time.Duration, do func()) {
	c.t.Helper()
	from := time.Now()
	do()
	c.losses = append(c.losses, window{what, from.Add(-chaosProbe), time.Now().Add(back), p})
}

// settled pauses the runtimes, wants everything to be as it should within a time, and
// judges what was lost meanwhile.
func (c *chaos) settled(after string, within time.Duration) {
	c.t.Helper()
	begin := time.Now()
	c.gate.Lock()
	c.pause.Lock()
	defer c.gate.Unlock()
	defer c.pause.Unlock()
	err := lab.Eventually(c.ctx, within, "after "+after+" all is well", c.check)
	c.t.Logf("%s: well after %v", after, time.Since(begin).Round(10*time.Millisecond))
	if err != nil {
		for _, n := range c.lab.Nodes() {
			c.t.Logf("%s:\n%s", n.Name, n.Logs(12))
		}
		c.t.Fatal(err)
	}
	for i := range c.losses { // nothing may be missed once all is well
		if now := time.Now(); now.Before(c.losses[i].to) {
			c.losses[i].to = now
		}
	}
	c.judge(after)
}

// judge fails the test for each datagram that was lost and no window covers.
func (c *chaos) judge(after string) {
	c.t.Helper()
	until := time.Now().Add(-chaosLate)
	if until.Before(c.judged) {
		return
	}
	wrong, covered := map[string][]lab.Lost{}, 0
	for _, l := range c.mesh.Lost(c.judged, until) {
		if allowed := func() bool {
			for _, w := range c.losses {
				if w.covers(l) {
					return true
				}
			}
			return false
		}(); allowed {
			covered++
			continue
		}
		key := l.From.Node.Name + " to " + l.Addr.String()
		wrong[key] = append(wrong[key], l)
	}
	c.judged = until
	if covered > 0 {
		c.t.Logf("%s: %d datagrams lost in their time", after, covered)
	}
	if len(wrong) == 0 {
		return
	}
	for key, list := range wrong {
		first, last := list[0].At, list[0].At
		for _, l := range list {
			if l.At.Before(first) {
				first = l.At
			}
			if l.At.After(last) {
				last = l.At
			}
		}
		c.t.Errorf("%s: %s lost %d datagrams, from %s to %s", after, key, len(list), first.Format("15:04:05.000"), last.Format("15:04:05.000"))
	}
	for _, w := range c.losses[max(0, len(c.losses)-4):] {
		c.t.Logf("time of %s: %s to %s", w.harm, w.from.Format("15:04:05.000"), w.to.Format("15:04:05.000"))
	}
	c.logs(c.judged.Add(-30 * time.Second))
}

// logs shows what all agents said since a time, in the order in which they said it.
func (c *chaos) logs(since time.Time) {
	var lines []string
	for _, n := range c.lab.Nodes() {
		for line := range strings.Lines(n.Logs(400)) {
			_, rest, _ := strings.Cut(line, "time=")
			stamp, text, _ := strings.Cut(rest, " ")
			if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && at.After(since) {
				lines = append(lines, stamp+" "+n.Name+" "+strings.TrimSpace(text))
			}
		}
	}
	slices.Sort(lines)
	c.t.Logf("all agents:\n%s", strings.Join(lines, "\n"))
}

// errSoon says that the witnesses have not asked for long enough since the harm.
var errSoon = errors.New("the harm was just now")

// check compares what the runtimes know with databases, kernels and sessions, and wants
// every witness to answer every other one.
func (c *chaos) check() error {
	for _, n := range c.lab.Nodes() {
		if _, err := n.CompareRoutes(c.ctx); err != nil {
			return err
		}
		if err := c.addresses(n); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	if err := c.oneOwner(); err != nil {
		return err
	}
	calm := time.Now().Add(-chaosLate / 4)
	if calm.Add(-chaosCalm).Before(c.harmed) {
		return errSoon
	}
	for _, l := range c.mesh.Lost(calm.Add(-chaosCalm), calm) {
		return fmt.Errorf("%s is not answered", l)
	}
	return nil
}

// addresses wants a node's database, pods and devices to be what its runtime knows.
func (c *chaos) addresses(n *lab.Node) error {
	assigned, err := assignments(c.ctx, n)
	if err != nil {
		return err
	}
	want, pods := map[string]string{}, 0 // address -> container
	if !n.Reflector {
		pods = 1 + len(c.runtimes[n].pods)
		w := labtest.PodOf(c.lab, n.Name)
		for _, a := range w.Addrs {
			want[a.String()] = w.ContainerID
		}
		for _, p := range c.runtimes[n].pods {
			for _, a := range p.addrs {
				want[a.String()] = p.id
			}
		}
	}
	for _, s := range assigned {
		if want[s.GetAddress()] != s.GetContainerId() {
			return fmt.Errorf("address %s is assigned to %.12s, and belongs to %.12s", s.GetAddress(), s.GetContainerId(), want[s.GetAddress()])
		}
		delete(want, s.GetAddress())
	}
	for a, id := range want {
		return fmt.Errorf("address %s of %.12s is not assigned", a, id)
	}
	devices, err := n.NS.Devices("onl")
	if err != nil {
		return err
	}
	devices = slices.DeleteFunc(devices, func(name string) bool { return strings.HasPrefix(name, "onlink-") })
	if len(devices) != pods {
		return fmt.Errorf("%d devices of pods, and %d pods", len(devices), pods)
	}
	return nil
}

// oneOwner wants each block to be one node's, and every other node to have a route to it.
func (c *chaos) oneOwner() error {
	blocks := map[string]*lab.Node{}
	for _, n := range c.lab.Nodes() {
		list, err := n.Blocks(c.ctx)
		if err != nil {
			return err
		}
		for _, b := range list {
			if o := blocks[b.GetCidr()]; o != nil {
				return fmt.Errorf("%s belongs to %s and to %s", b.GetCidr(), o.Name, n.Name)
			}
			blocks[b.GetCidr()] = n
		}
	}
	for _, n := range c.lab.Nodes() {
		routes, err := n.NS.Routes(labtest.RouteProtocol)
		if err != nil {
			return err
		}
		has := map[string]bool{}
		for _, r := range routes {
			p := r.Prefix.String()
			if r.Prefix.IsSingleIP() || strings.HasPrefix(p, "10.57.") || strings.HasPrefix(p, "fd57:") {
				continue
			}
			if has[p] = true; blocks[p] == nil {
				return fmt.Errorf("%s has a route to %s, a block that nobody has", n.Name, p)
			}
		}
		for p := range blocks {
			if !has[p] {
				return fmt.Errorf("%s has no route to %s of %s", n.Name, p, blocks[p].Name)
			}
		}
	}
	return nil
}

// usage is the sum of what the agents have.
func (c *chaos) usage() (sum labtest.Usage) {
	c.t.Helper()
	for _, n := range c.lab.Nodes() {
		var u labtest.Usage
		must(c.t, lab.Eventually(c.ctx, labtest.Back, "metrics of "+n.Name, func() (err error) { // a busy agent leaves some out
			u, err = labtest.UsageOf(c.ctx, n)
			return err
		}))
		sum.Goroutines, sum.Files, sum.Memory = sum.Goroutines+u.Goroutines, sum.Files+u.Files, sum.Memory+u.Memory
	}
	return sum
}

// grown fails the test when the agents have more of what they must give back.
func (c *chaos) grown() {
	c.t.Helper()
	agents := float64(len(c.lab.Nodes()))
	var now labtest.Usage
	err := lab.Eventually(c.ctx, labtest.Patience, "what the agents used before", func() error {
		now = c.usage()
		switch {
		case now.Goroutines > c.begun.Goroutines+10*agents:
			return fmt.Errorf("%g goroutines, %g before", now.Goroutines, c.begun.Goroutines)
		case now.Files > c.begun.Files+5*agents:
			return fmt.Errorf("%g descriptors, %g before", now.Files, c.begun.Files)
		case now.Memory > 2*c.begun.Memory:
			return fmt.Errorf("%.0f MiB, %.0f before", now.Memory/(1<<20), c.begun.Memory/(1<<20))
		}
		return nil
	})
	if err != nil {
		c.t.Error(err)
	}
	c.t.Logf("goroutines %g and %g before, descriptors %g and %g, MiB %.0f and %.0f", now.Goroutines, c.begun.Goroutines, now.Files, c.begun.Files, now.Memory/(1<<20), c.begun.Memory/(1<<20))
}
