package labtest

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
	onlinkv1 "onlink/proto/v1"
)

// Originate sets the prefixes that a running agent announces besides its blocks.
func Originate(ctx context.Context, t *testing.T, n *lab.Node, prefixes ...netip.Prefix) {
	t.Helper()
	c := n.Edited()
	c.BGP.Originate = conf.Strings(prefixes...)
	Reload(ctx, t, n, c)
}

// WritePools writes a node's file with these pools and leaves its agent alone.
func WritePools(t *testing.T, n *lab.Node, pools ...conf.Pool) {
	t.Helper()
	c := n.Config()
	c.Pools = pools
	_, err := n.WriteConfig("onlinkd.yaml", c)
	Must(t, err)
}

// ReloadPools reloads a running agent's file with these pools and waits until
// they are in force.
func ReloadPools(ctx context.Context, t *testing.T, n *lab.Node, pools ...conf.Pool) {
	t.Helper()
	c := n.Config()
	c.Pools = pools
	Reload(ctx, t, n, c)
	Must(t, lab.Eventually(ctx, Back, "pools of "+n.Name, func() error {
		admin, err := n.Admin()
		if err != nil {
			return err
		}
		reply, err := admin.ListPools(ctx, &onlinkv1.ListPoolsRequest{})
		if err != nil {
			return err
		}
		if len(reply.GetPools()) != len(pools) {
			return fmt.Errorf("%d pools, want %d", len(reply.GetPools()), len(pools))
		}
		return nil
	}))
}

// Reload writes a running agent's file and reloads it; the agent must accept it, and
// a change that it holds is confirmed.
func Reload(ctx context.Context, t *testing.T, n *lab.Node, c *conf.Config) {
	t.Helper()
	text, err := c.YAML()
	Must(t, err)
	if hangUp(ctx, t, n, text, "configuration taken", "change held until it is confirmed") == 0 {
		return
	}
	out, err := n.Ctl(ctx, "config", "confirm")
	Must(t, err)
	if out.Code != 0 {
		t.Fatalf("confirm a held change of %s: %s", n.Name, out.Stderr)
	}
}

// RefuseReload writes a running agent's file and reloads it; the agent must
// refuse it. more is text behind the configuration, for mistakes that
// [conf.Config] cannot hold.
func RefuseReload(ctx context.Context, t *testing.T, n *lab.Node, c *conf.Config, more ...string) {
	t.Helper()
	text, err := c.YAML()
	Must(t, err)
	hangUp(ctx, t, n, append(text, strings.Join(more, "")...), "configuration rejected")
}

// hangUp writes the file, sends SIGHUP, waits for one of the answers in the log, and
// returns its index.
func hangUp(ctx context.Context, t *testing.T, n *lab.Node, file []byte, want ...string) (at int) {
	t.Helper()
	count := func() (out []int) {
		text, err := os.ReadFile(n.LogFile())
		Must(t, err)
		for _, line := range want {
			out = append(out, bytes.Count(text, []byte(line)))
		}
		return out
	}
	before := count()
	_, err := n.WriteText("onlinkd.yaml", file)
	Must(t, err)
	Must(t, syscall.Kill(n.Process().Pid(), syscall.SIGHUP))
	Must(t, lab.Eventually(ctx, Patience, strings.Join(want, " or "), func() error {
		for i, n := range count() {
			if n != before[i] {
				at = i
				return nil
			}
		}
		return fmt.Errorf("no such line:\n%s", n.Logs(5))
	}))
	return at
}
