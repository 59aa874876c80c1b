package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/cni"
	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestAgentChains has the agent install its conflist where the reference plugins
// are: a hostPort answers and a bandwidth annotation holds without any
// configuration, and what an operator adds to the list stays there.
func TestAgentChains(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("chains"))
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	d := labtest.NewRuntimeDirs(t, n)
	must(t, os.MkdirAll(d.Bin, 0o755))
	for _, name := range []string{"portmap", "bandwidth", "tuning"} {
		must(t, os.Symlink(filepath.Join(labtest.ReferencePlugins, name), filepath.Join(d.Bin, name)))
	}
	n.Edit = func(c *conf.Config) { c.CNI.Install = d.Install() }
	must(t, l.StartToRs(ctx))
	must(t, n.Start(ctx))
	labtest.WaitFile(ctx, t, d.Conflist())
	if got, want := d.Types(), []string{cni.PluginName, "portmap", "bandwidth"}; !slices.Equal(got, want) {
		t.Fatalf("plugins %v, want %v", got, want)
	}

	const size, rate = 2 << 20, 8_000_000 // bytes; bits a second
	w := d.Network()
	p, err := n.NewPod("web")
	must(t, err)
	rt := w.Runtime(p, labtest.Shape(labtest.MapPort(map[string]any{ // as containerd passes a hostPort and the two annotations
		"io.kubernetes.cri.pod-annotations": map[string]string{
			"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "8M",
		},
	}, 8080, 80), rate))
	_, err = w.Add(ctx, rt)
	must(t, err)
	labtest.Sink(t, p.NS, ":80", size)
	took, err := labtest.Send(tor.NS, netip.AddrPortFrom(n.Addr, 8080).String(), size)
	must(t, err)
	if least := time.Second; took < least { // 2 s less the burst
		t.Errorf("%d bytes to the hostPort took %v through a shaper of %d bits a second, want more than %v", size, took, rate, least)
	}
	must(t, w.Del(ctx, rt))

	// An operator adds a plugin. When the agent has put back what is removed
	// beside it, it has looked at the list.
	d.Edit(func(list map[string]any) {
		list["plugins"] = append(list["plugins"].([]any), labtest.Tuning("500"))
	})
	for range 3 {
		must(t, os.Remove(d.Plugin()))
		labtest.WaitFile(ctx, t, d.Plugin())
	}
	if got, want := d.Types(), []string{cni.PluginName, "portmap", "bandwidth", "tuning"}; !slices.Equal(got, want) {
		t.Fatalf("plugins %v, want %v", got, want)
	}
	w = d.Network()
	rt = w.Runtime(p, nil)
	_, err = w.Add(ctx, rt)
	must(t, err)
	must(t, w.Check(ctx, rt)) // which the plugin bandwidth would fail
	must(t, p.NS.Do(func() error {
		have, err := os.ReadFile("/proc/sys/net/core/somaxconn")
		if got := strings.TrimSpace(string(have)); got != "500" {
			return fmt.Errorf("somaxconn is %s, want 500 by the operator's plugin: %w", got, err)
		}
		return nil
	}))
	must(t, w.Del(ctx, rt))
	must(t, p.Delete(ctx))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error { return labtest.Leftovers(ctx, n) }))
}

// TestMissingPlugin names a plugin in the configuration that is not there: it is
// not chained, pods start, and status says so until it comes.
func TestMissingPlugin(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("missing"))
	n := l.Node("r1n1")
	d := labtest.NewRuntimeDirs(t, n)
	n.Edit = func(c *conf.Config) {
		c.BGP = conf.Silent()
		c.CNI.Install = d.Install()
		c.CNI.Install.Plugins = []any{"bandwidth"}
	}
	must(t, n.Start(ctx))
	labtest.WaitFile(ctx, t, d.Conflist())
	if got := d.Types(); !slices.Equal(got, []string{cni.PluginName}) {
		t.Errorf("plugins %v, want ours alone", got)
	}
	told := func() bool {
		st, err := n.Status(ctx)
		must(t, err)
		return strings.Contains(strings.Join(st.GetProblems(), "\n"), "cni.install.plugins: bandwidth is not in "+d.Bin)
	}
	if !told() {
		t.Error("status does not name the missing plugin")
	}
	must(t, os.Symlink(filepath.Join(labtest.ReferencePlugins, "bandwidth"), filepath.Join(d.Bin, "bandwidth")))
	must(t, lab.Eventually(ctx, labtest.Back, "the plugin is chained", func() error {
		if got := d.Types(); !slices.Equal(got, []string{cni.PluginName, "bandwidth"}) || told() {
			return fmt.Errorf("plugins %v", got)
		}
		return nil
	}))
}
