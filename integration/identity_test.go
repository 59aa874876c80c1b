package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	onlinkv1 "onlink/proto/v1"
)

// claimants is a rack of two nodes and a reflector with the registry, in which
// everybody asserts every second. names are those of the two nodes' agents.
type claimants struct {
	ctx  context.Context
	t    *testing.T
	lab  *lab.Lab
	rr   *lab.Node
	a, b *lab.Node
}

func newClaimants(t *testing.T, name string) *claimants {
	t.Helper()
	ctx, l := labtest.Build(t, labtest.InRack(name))
	c := &claimants{ctx: ctx, t: t, lab: l, rr: l.Reflectors()[0], a: l.Node("r1n1"), b: l.Node("r1n2")}
	for _, n := range l.Nodes() {
		c.edit(n, func(*conf.Config) {})
	}
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, c.rr)
	return c
}

// edit changes a node's configuration for its next start.
func (c *claimants) edit(n *lab.Node, f func(*conf.Config)) {
	n.Edit = func(cfg *conf.Config) {
		cfg.Pools = []conf.Pool{{Name: "small", CIDR: "10.244.0.0/24", BlockSize: 28, Tunnel: "none"}}
		cfg.IPAM.Registry.Assert = "1s"
		f(cfg)
	}
}

// called gives a node's agent a name.
func called(name string) func(*conf.Config) {
	return func(cfg *conf.Config) { cfg.Node.Name = name }
}

// begin starts an agent and waits until it serves.
func (c *claimants) begin(n *lab.Node) {
	c.t.Helper()
	labtest.StartNode(c.ctx, c.t, n)
	must(c.t, lab.Eventually(c.ctx, labtest.SettleLimit, n.Name+" has a block", func() error {
		if len(c.announces(n)) == 0 {
			return errors.New("none yet")
		}
		return nil
	}))
}

func (c *claimants) pod(n *lab.Node, name string) *lab.Pod {
	c.t.Helper()
	p, err := n.AddPod(c.ctx, name)
	must(c.t, err)
	return p
}

// announces returns the blocks that an agent announces.
func (c *claimants) announces(n *lab.Node) []netip.Prefix {
	c.t.Helper()
	blocks, err := n.Blocks(c.ctx)
	if err != nil {
		return nil // it just starts
	}
	var out []netip.Prefix
	for _, b := range blocks {
		if b.GetAnnounced() {
			out = append(out, netip.MustParsePrefix(b.GetCidr()))
		}
	}
	return out
}

// holds wants an agent to announce these blocks at least.
func (c *claimants) holds(n *lab.Node, blocks []netip.Prefix) error {
	got := c.announces(n)
	for _, b := range blocks {
		if !slices.Contains(got, b) {
			return fmt.Errorf("%s announces %v, want %v among them", n.Name, got, b)
		}
	}
	return nil
}

// refused wants a node to say these words in status, log, `ipam check` and the
// answer to ADD, and to announce and give out nothing.
func (c *claimants) refused(n *lab.Node, words ...string) {
	c.t.Helper()
	for _, w := range words {
		must(c.t, lab.Eventually(c.ctx, labtest.SettleLimit, "status of "+n.Name+" says "+w, func() error { return labtest.Problem(c.ctx, n, w) }))
		labtest.WantCtl(c.ctx, c.t, n, 1, w, "ipam", "check")
	}
	if text, err := os.ReadFile(n.LogFile()); err != nil || !strings.Contains(string(text), strings.Trim(words[0], `"`)) {
		c.t.Errorf("the log of %s does not say %q (%v)", n.Name, words[0], err)
	}
	p, err := n.AddPod(c.ctx, "unwanted")
	if err == nil {
		c.t.Fatalf("%s gave %v to a pod", n.Name, p.Addrs)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			c.t.Errorf("the answer to ADD on %s does not say %q: %v", n.Name, w, err)
		}
	}
	if got := c.announces(n); len(got) != 0 {
		c.t.Errorf("%s announces %v", n.Name, got)
	}
}

// reaches wants an answer from a pod.
func (c *claimants) reaches(from *lab.Node, p *lab.Pod) {
	c.t.Helper()
	if _, err := from.NS.Ping(c.ctx, p.Addr(), 1, labtest.Back); err != nil {
		c.t.Errorf("from %s to pod %s: %v", from.Name, p.Name, err)
	}
}

// TestSameName: of two machines with one name the second is refused, until an
// operator says that it has replaced the first, or that is gone.
func TestSameName(t *testing.T) {
	c := newClaimants(t, "samename")
	c.edit(c.a, called("worker"))
	c.edit(c.b, called("worker"))
	c.begin(c.a)
	first := c.pod(c.a, "first")
	held := c.announces(c.a)
	must(t, c.b.Start(c.ctx))
	both := []string{c.a.Addr.String(), c.b.Addr.String(), "worker"}
	c.refused(c.b, both...)
	must(t, c.holds(c.a, held))
	c.reaches(c.rr, first)
	labtest.WantCtl(c.ctx, t, c.b, 1, "", "ipam", "take-over", "worker") // the first lives
	c.refused(c.b, both...)

	// Its agent is gone, but its blocks are still announced: it may be cut off.
	must(t, c.a.Kill())
	must(t, lab.Eventually(c.ctx, labtest.SettleLimit, "the second sees the announcement", func() error { return labtest.Problem(c.ctx, c.b, "still announced") }))
	c.refused(c.b, both...)
	c.reaches(c.rr, first)

	labtest.WantCtl(c.ctx, t, c.b, 0, "blocks belong to this machine", "ipam", "take-over", "worker")
	labtest.WantCtl(c.ctx, t, c.b, 0, "take-over", "ipam", "audit")
	labtest.WantCtl(c.ctx, t, c.rr, 0, "take-over", "ipam", "audit")
	must(t, lab.Eventually(c.ctx, labtest.SettleLimit, "the second announces the blocks", func() error { return c.holds(c.b, held) }))
	c.pod(c.b, "second")

	must(t, c.a.Start(c.ctx))
	c.refused(c.a, both...)
	labtest.WantCtl(c.ctx, t, c.a, 1, "1 attachments", "ipam", "check") // its pod keeps what it has
}

// TestSameNameGone: a machine that does not assert and whose blocks nobody
// announces is gone; the next one of its name takes over by itself. Without a
// database the same machine is at once what it was.
func TestSameNameGone(t *testing.T) {
	c := newClaimants(t, "gone")
	mute := func(cfg *conf.Config) {
		called("worker")(cfg)
		cfg.BGP = conf.BGP{ASN: lab.NodeASN}
	}
	c.edit(c.a, mute)
	c.edit(c.b, called("worker"))
	c.begin(c.a)
	held := c.announces(c.a)
	must(t, c.a.Kill())
	must(t, os.Remove(filepath.Join(c.a.StateDir(), "onlink.db")))
	must(t, c.a.Start(c.ctx))
	must(t, lab.Eventually(c.ctx, labtest.SettleLimit, "its blocks are back", func() error { return c.holds(c.a, held) }))
	must(t, c.b.Start(c.ctx))
	c.refused(c.b, c.a.Addr.String(), c.b.Addr.String())
	must(t, c.a.Kill())
	must(t, lab.Eventually(c.ctx, labtest.SettleLimit, "the second takes over", func() error { return c.holds(c.b, held) }))
	c.pod(c.b, "second")
}

// TestRenamed: an agent that finds another node's database in the place of its
// own uses nothing of it; pods that run keep their addresses; both ways on go.
func TestRenamed(t *testing.T) {
	c := newClaimants(t, "renamed")
	c.edit(c.a, called("worker1"))
	c.begin(c.a)
	p := c.pod(c.a, "first")
	held := c.announces(c.a)
	must(t, c.a.Stop())

	c.edit(c.a, called("worker1.example.com"))
	must(t, c.a.Start(c.ctx))
	c.refused(c.a, `"worker1"`, `"worker1.example.com"`, "take-over worker1")
	labtest.WantCtl(c.ctx, t, c.a, 1, "1 attachments", "ipam", "check")
	c.reaches(c.a, p)
	if o := labtest.OwnerOf(c.ctx, t, c.rr, held[0]); o != "worker1" {
		t.Errorf("the registry gives %v to %q, want worker1", held[0], o)
	}

	must(t, c.a.Stop())
	c.edit(c.a, called("worker1")) // the name was wrong
	c.begin(c.a)
	c.reaches(c.rr, p)
	must(t, c.a.Stop())

	c.edit(c.a, called("worker1.example.com")) // the name was right
	must(t, c.a.Start(c.ctx))
	c.refused(c.a, `"worker1"`)
	labtest.WantCtl(c.ctx, t, c.a, 0, held[0].String(), "ipam", "take-over", "worker1")
	must(t, lab.Eventually(c.ctx, labtest.SettleLimit, "the blocks are announced under the new name", func() error { return c.holds(c.a, held) }))
	if o := labtest.OwnerOf(c.ctx, t, c.rr, held[0]); o != "worker1.example.com" {
		t.Errorf("the registry gives %v to %q, want the new name", held[0], o)
	}
	c.reaches(c.rr, p)
	c.pod(c.a, "later")
	labtest.CheckUnique(c.ctx, t, c.lab)
	labtest.WantCtl(c.ctx, t, c.a, 0, " 0 problems", "ipam", "check")
}

// TestClonedDisk: a copy of a node's database on another machine is not used,
// whether the copy has the name of the original or one of its own, and also
// while the registry is away.
func TestClonedDisk(t *testing.T) {
	c := newClaimants(t, "cloned")
	c.begin(c.a)
	p := c.pod(c.a, "first")
	file := filepath.Join(c.b.StateDir(), "onlink.db")
	labtest.WantCtl(c.ctx, t, c.a, 0, "bytes", "ipam", "backup", file)

	must(t, c.b.Start(c.ctx))
	c.refused(c.b, `"`+c.a.Name+`"`, `"`+c.b.Name+`"`)
	must(t, c.b.Stop())

	c.edit(c.b, called(c.a.Name))
	must(t, c.b.Start(c.ctx))
	c.refused(c.b, c.a.Addr.String(), c.b.Addr.String(), "the same database")
	must(t, c.b.Kill())

	must(t, c.rr.Kill())
	must(t, c.b.Start(c.ctx))
	c.refused(c.b, "no address is assigned until the registry has confirmed this machine", c.a.Addr.String())
	c.reaches(c.a, p)
	must(t, c.b.Stop())

	labtest.StartNode(c.ctx, t, c.rr)
	must(t, os.Remove(file))
	c.edit(c.b, func(*conf.Config) {})
	c.begin(c.b) // a node of its own
	c.pod(c.b, "second")
	c.reaches(c.rr, p)
	labtest.CheckUnique(c.ctx, t, c.lab)
}

// TestAddressChanged: a node that comes back at another address keeps the
// blocks announced in which pods run, and is whole again once the old address
// was silent.
func TestAddressChanged(t *testing.T) {
	t.Parallel()
	c := newClaimants(t, "moved")
	c.begin(c.a)
	p := c.pod(c.a, "first")
	must(t, c.a.Stop())
	at := netip.AddrFrom4([4]byte{10, 57, 1, 77})
	must(t, c.a.NS.DeleteAddr("eth0", netip.PrefixFrom(c.a.Addr, 24)))
	must(t, c.a.NS.AddAddr("eth0", netip.PrefixFrom(at, 24)))
	c.edit(c.a, func(cfg *conf.Config) { cfg.Node.Address = at.String() })
	must(t, c.a.Start(c.ctx))
	c.reaches(c.rr, p)
	must(t, c.a.WaitReady(c.ctx))
	must(t, lab.Eventually(c.ctx, labtest.SettleLimit, "the registry knows the new address", func() error {
		return labtest.LacksProblem(c.ctx, c.a, "identity")
	}))
	c.pod(c.a, "later")
	labtest.CheckUnique(c.ctx, t, c.lab)
}

// TestRegistryPort: the registry answers no pod, whatever address it comes with,
// and no machine that asks for another node.
func TestRegistryPort(t *testing.T) {
	t.Parallel()
	c := newClaimants(t, "port")
	c.begin(c.a)
	c.begin(c.b)
	at := netip.AddrPortFrom(c.rr.Addr, 4790).String()
	list := func(ns *lab.NS) error {
		return c.ask(ns, at, func(ctx context.Context, r onlinkv1.RegistryClient) error {
			_, err := r.List(ctx, &onlinkv1.ListRequest{})
			return err
		})
	}
	must(t, list(c.b.NS)) // the test can tell
	for _, n := range []*lab.Node{c.a, c.rr} {
		if err := list(c.pod(n, "asks").NS); err == nil {
			t.Errorf("a pod of %s was answered", n.Name)
		}
	}
	stolen := func(by *onlinkv1.Caller) error {
		return c.ask(c.b.NS, at, func(ctx context.Context, r onlinkv1.RegistryClient) error {
			_, err := r.Claim(ctx, &onlinkv1.ClaimRequest{Node: by.GetNode(), By: by, Pool: "small", PoolCidr: "10.244.0.0/24", BlockSize: 28})
			return err
		})
	}
	for _, by := range []*onlinkv1.Caller{
		{Node: c.a.Name, Instance: "made up", Address: c.a.Addr.String(), PeriodMs: 1000}, // not from there
		{Node: c.a.Name, Instance: "made up", Address: c.b.Addr.String(), PeriodMs: 1000}, // held by another
		{Node: c.a.Name}, // as a version before asks
	} {
		if err := stolen(by); status.Code(err) != codes.PermissionDenied {
			t.Errorf("claim by %v: %v, want it denied", by, err)
		}
	}
	for _, n := range []*lab.Node{c.a, c.rr} {
		labtest.WantCtl(c.ctx, t, n, 0, "Note:      ipam.registry.insecure: ", "status")
	}
}

// ask calls a registry from a namespace.
func (c *claimants) ask(ns *lab.NS, at string, call func(context.Context, onlinkv1.RegistryClient) error) error {
	c.t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+at, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, target string) (conn net.Conn, err error) {
			err = ns.Do(func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, "tcp", target)
				return err
			})
			return conn, err
		}))
	must(c.t, err)
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	return call(ctx, onlinkv1.NewRegistryClient(cc))
}
