package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestContestedBlock has a node announce a block of another one, and a part of
// it, by configuration. The reflector, which has the registry, refuses both:
// packets go to the owner on every node. It raises the alarm in status and
// metrics, and says why in explain, until that ends.
func TestContestedBlock(t *testing.T) {
	t.Parallel()
	ctx, l := labtest.Build(t, labtest.InRack("contested"))
	labtest.StartAll(ctx, t, l)
	registry, thief, owner := l.Reflectors()[0], l.Node("r1n1"), l.Node("r1n2")
	block := labtest.BlockOf(ctx, t, owner)
	must(t, labtest.HasMetric(ctx, registry, "onlink_ipam_blocks_contested 0"))
	must(t, labtest.HasMetric(ctx, registry, `onlink_bgp_import_refused_total{reason="owner"} 0`))

	part := netip.PrefixFrom(block.Addr(), block.Bits()+2)
	mark := netip.MustParsePrefix("10.244.222.0/26") // of nobody: when it is there, all before it was
	announceToo(ctx, t, thief, block.String(), part.String(), mark.String())
	must(t, lab.Eventually(ctx, 4*labtest.Back, "the alarm is raised", func() error {
		return errors.Join(
			labtest.Problem(ctx, registry, fmt.Sprintf("block %s: belongs to node %s, and is announced by another node: %s with next hop %s, %s with next hop %s: refused", block, owner.Name, block, thief.Addr, part, thief.Addr)),
			labtest.HasMetric(ctx, registry, "onlink_ipam_blocks_contested 1"))
	}))
	must(t, labtest.HasMetric(ctx, registry, `onlink_bgp_import_refused_total{reason="owner"} 1`))
	for _, n := range l.Nodes() {
		if n == thief {
			continue
		}
		must(t, lab.Eventually(ctx, labtest.Back, n.Name+" has the mark", func() error { return labtest.ThroughHops(n, mark, thief.Addr) }))
		must(t, labtest.UnknownTo(ctx, []*lab.Node{n}, part))
		if n != owner {
			must(t, labtest.ThroughHops(n, block, owner.Addr))
		}
	}
	out, err := registry.Ctl(ctx, "explain", block.Addr().String())
	must(t, err)
	for _, text := range []string{
		fmt.Sprintf("%s next hop %s, announced by", block, thief.Addr),
		fmt.Sprintf("is rejected by the import policy: block %s belongs to node %s, which is not at %s", block, owner.Name, thief.Addr),
		fmt.Sprintf("%s next hop %s, announced by", part, thief.Addr), "longer than a block of the pool",
	} {
		if !strings.Contains(out.Stdout, text) {
			t.Errorf("explain lacks %q:\n%s", text, out.Stdout)
		}
	}
	announceToo(ctx, t, thief)
	must(t, lab.Eventually(ctx, 4*labtest.Back, "the alarm ends", func() error {
		return errors.Join(labtest.LacksProblem(ctx, registry, block.String()), labtest.HasMetric(ctx, registry, "onlink_ipam_blocks_contested 0"))
	}))
}

// announceToo makes a running agent announce prefixes besides its blocks.
func announceToo(ctx context.Context, t *testing.T, n *lab.Node, prefixes ...string) {
	t.Helper()
	c := n.Config()
	c.BGP.Originate = prefixes
	labtest.Reload(ctx, t, n, c)
}

// TestPoolRunsOut fills a small pool: the agent that has the registry warns
// when nodes own all of it, a node when its own addresses run out, and a pod
// for which there is none is told which pool is full.
func TestPoolRunsOut(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.InRack("runsout"))
	tiny(l)
	labtest.StartAll(ctx, t, l)
	registry, n := l.Reflectors()[0], l.Node("r1n1")
	must(t, labtest.LacksProblem(ctx, registry, "pool tiny"))
	must(t, labtest.LacksProblem(ctx, n, "pool tiny"))
	_, err := n.AddPod(ctx, "pod-0") // three nodes have a block each: this one's spare is the fourth and last
	must(t, err)
	must(t, lab.Eventually(ctx, labtest.Back, "the registry's agent warns", func() error {
		return errors.Join(labtest.Problem(ctx, registry, "pool tiny is full: nodes own 100 %"), labtest.HasMetric(ctx, registry, `onlink_ipam_pool_claimed_ratio{pool="tiny"} 1`))
	}))
	must(t, labtest.LacksProblem(ctx, n, "pool tiny"))
	for i := 1; i < 16; i++ {
		_, err := n.AddPod(ctx, fmt.Sprintf("pod-%d", i))
		must(t, err)
	}
	must(t, lab.Eventually(ctx, labtest.Back, "the node warns", func() error {
		return errors.Join(labtest.Problem(ctx, n, "pool tiny is full: no free block"), labtest.HasMetric(ctx, n, `onlink_ipam_pool_without_free_block{pool="tiny"} 1`))
	}))
	_, err = n.AddPod(ctx, "one-too-many")
	for _, part := range []string{"no address left", "tiny", "16 of 16"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("a pod too many: %v, want an error with %q", err, part)
		}
	}
}

// tiny gives all nodes a pool of four blocks of eight addresses.
func tiny(l *lab.Lab) {
	for _, n := range l.Nodes() {
		n.Edit = func(c *conf.Config) {
			c.Pools = []conf.Pool{{Name: "tiny", CIDR: "10.244.0.0/27", BlockSize: 29, Tunnel: "none"}}
		}
	}
}

// TestReleaseNode takes a dead node's blocks: the audit tells of it after the
// agent was killed too. The node that comes back finds its block lost, names
// it, and announces it no more.
func TestReleaseNode(t *testing.T) {
	t.Parallel()
	ctx, l := labtest.Build(t, labtest.InRack("release"))
	tiny(l)
	labtest.StartAll(ctx, t, l)
	registry, dead, heir := l.Reflectors()[0], l.Node("r1n2"), l.Node("r1n1")
	_, err := dead.AddPod(ctx, "old")
	must(t, err)
	block := labtest.BlockOf(ctx, t, dead)
	labtest.WantCtl(ctx, t, registry, 0, "TIME", "ipam", "audit")
	must(t, dead.Kill())

	refused, err := registry.Ctl(ctx, "ipam", "release-node", dead.Name) // it called a moment ago
	must(t, err)
	if refused.Code != 1 || !strings.Contains(refused.Stderr, "runs at "+dead.Addr.String()) {
		t.Errorf("release of a node that called a moment ago: %+v", refused)
	}
	labtest.WantCtl(ctx, t, registry, 0, block.String(), "ipam", "release-node", dead.Name, "--force")
	must(t, registry.Kill())
	labtest.StartNode(ctx, t, registry)
	out, err := registry.Ctl(ctx, "ipam", "audit")
	must(t, err)
	for _, part := range []string{"release-node", dead.Name, "root (uid 0", "done", block.String()} {
		if !strings.Contains(out.Stdout, part) {
			t.Errorf("the audit lacks %q after a kill:\n%s%s", part, out.Stdout, out.Stderr)
		}
	}
	// Were the block free, the node would claim it again and go on.
	for i := range 17 {
		_, err := heir.AddPod(ctx, fmt.Sprintf("new-%d", i))
		must(t, err)
	}
	if owner := labtest.OwnerOf(ctx, t, registry, block); owner != heir.Name {
		t.Fatalf("%s is %s's, want that %s has claimed it", block, owner, heir.Name)
	}
	must(t, dead.Start(ctx))
	must(t, lab.Eventually(ctx, labtest.Back, "the node tells what it has lost", func() error {
		return errors.Join(labtest.Problem(ctx, dead, "block "+block.String()+": belongs to another node now, 1 pods"), labtest.HasMetric(ctx, dead, "onlink_ipam_blocks_lost 1"))
	}))
	blocks, err := dead.Blocks(ctx)
	must(t, err)
	for _, b := range blocks {
		if b.GetCidr() == block.String() && b.GetAnnounced() {
			t.Errorf("%s announces %s, which it has lost", dead.Name, block)
		}
	}
	labtest.WantCtl(ctx, t, dead, 0, "1 attachments", "ipam", "check") // its pod keeps what it has
}
