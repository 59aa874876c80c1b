package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/ours"
	"onlink/nft"
)

// TestReadyCoversADD puts somebody else's table in the place of the one that
// every ADD writes to: the node is not ready, in STATUS, in status and to the
// container runtime, and says why; when the table goes, it is.
func TestReadyCoversADD(t *testing.T) {
	if err := nft.SupportsSenders(); err != nil {
		t.Skip("needs kernel feature: nftables")
	}
	ctx, l := labtest.Build(t, labtest.Alone("covers"))
	n := l.Node("r1n1")
	folder := t.TempDir()
	n.Edit = func(c *conf.Config) { c.CNI.Install = &conf.Install{BinDir: folder, ConfDir: folder} }
	conflist := func() error { _, err := os.Stat(filepath.Join(folder, "10-onlink.conflist")); return err }
	theirs := &nftables.Table{Name: ours.SendersTable, Family: nftables.TableFamilyINet}
	must(t, n.NS.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(theirs)
		c.AddChain(&nftables.Chain{Name: "theirs", Table: theirs})
		return c.Flush()
	}))
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)
	w := labtest.NewNetwork(t, n, "1.1.0", labtest.Onlink(n))
	status := func() error { return w.Status(ctx) }
	const why = "a pod cannot be connected on this node: "
	must(t, lab.Eventually(ctx, labtest.Back, "STATUS and status say why no pod can be added", func() error {
		st, err := n.Status(ctx)
		if err != nil {
			return err
		}
		for name, text := range map[string]string{"status": strings.Join(st.GetProblems(), "\n"), "STATUS": fmt.Sprint(status())} {
			if !strings.Contains(text, why) || !strings.Contains(text, "inet onlink-pods has chain theirs") {
				return fmt.Errorf("%s says %q", name, text)
			}
		}
		return nil
	}))
	if got := outcome(status()); got != "error 50" {
		t.Errorf("STATUS: %s, want error 50", got)
	}
	if conflist() == nil {
		t.Error("the container runtime is told of a network that fails every pod")
	}
	must(t, n.NS.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.DelTable(theirs)
		return c.Flush()
	}))
	must(t, lab.Eventually(ctx, 2*labtest.Back, "the node is ready", func() error { return errors.Join(status(), conflist()) }))
	p, err := n.AddPod(ctx, "web")
	must(t, err)
	must(t, p.Delete(ctx))
	must(t, n.WaitClean(ctx))
}
