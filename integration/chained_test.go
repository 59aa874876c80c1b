package integration

import (
	"encoding/json"
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
)

// types are the plugins of the installed conflist.
func (d runtimeDirs) types() (out []string) {
	d.t.Helper()
	for _, p := range d.network().list.Plugins {
		out = append(out, p.Network.Type)
	}
	return out
}

// TestAgentChains has the agent install its conflist where the reference plugins
// are: a hostPort answers and a bandwidth annotation holds without any
// configuration, and what an operator adds to the list stays there.
func TestAgentChains(t *testing.T) {
	ctx, l := build(t, alone("chains"))
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	d := newRuntimeDirs(t, n)
	must(t, os.MkdirAll(d.bin, 0o755))
	for _, name := range []string{"portmap", "bandwidth", "tuning"} {
		must(t, os.Symlink(filepath.Join(referencePlugins, name), filepath.Join(d.bin, name)))
	}
	n.Edit = func(c *conf.Config) { c.CNI.Install = d.install() }
	must(t, l.StartToRs(ctx))
	must(t, n.Start(ctx))
	waitFile(ctx, t, d.conflist())
	if got, want := d.types(), []string{cni.PluginName, "portmap", "bandwidth"}; !slices.Equal(got, want) {
		t.Fatalf("plugins %v, want %v", got, want)
	}

	const size, rate = 2 << 20, 8_000_000 // bytes; bits a second
	w := d.network()
	p, err := n.NewPod("web")
	must(t, err)
	rt := w.runtime(p, map[string]any{ // as containerd says a hostPort and the two annotations
		"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
		"bandwidth":    map[string]any{"ingressRate": rate, "ingressBurst": rate / 8, "egressRate": rate, "egressBurst": rate / 8},
		"io.kubernetes.cri.pod-annotations": map[string]string{
			"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "8M",
		},
	})
	_, err = w.add(ctx, rt)
	must(t, err)
	sink(t, p.NS, ":80", size)
	took, err := send(tor.NS, netip.AddrPortFrom(n.Addr, 8080).String(), size)
	must(t, err)
	if least := time.Second; took < least { // 2 s less the burst
		t.Errorf("%d bytes to the hostPort took %v through a shaper of %d bits a second, want more than %v", size, took, rate, least)
	}
	must(t, w.del(ctx, rt))

	// An operator adds a plugin. When the agent has put back what is removed
	// beside it, it has looked at the list.
	d.edit(func(list map[string]any) {
		list["plugins"] = append(list["plugins"].([]any), map[string]any{"type": "tuning", "sysctl": map[string]string{"net.core.somaxconn": "500"}})
	})
	for range 3 {
		must(t, os.Remove(d.plugin()))
		waitFile(ctx, t, d.plugin())
	}
	if got, want := d.types(), []string{cni.PluginName, "portmap", "bandwidth", "tuning"}; !slices.Equal(got, want) {
		t.Fatalf("plugins %v, want %v", got, want)
	}
	w = d.network()
	rt = w.runtime(p, nil)
	_, err = w.add(ctx, rt)
	must(t, err)
	must(t, w.check(ctx, rt)) // which the plugin bandwidth would fail
	must(t, p.NS.Do(func() error {
		have, err := os.ReadFile("/proc/sys/net/core/somaxconn")
		if got := strings.TrimSpace(string(have)); got != "500" {
			return fmt.Errorf("somaxconn is %s, want 500 by the operator's plugin: %w", got, err)
		}
		return nil
	}))
	must(t, w.del(ctx, rt))
	must(t, p.Delete(ctx))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error { return leftovers(ctx, n) }))
}

// edit changes the installed conflist as an operator does.
func (d runtimeDirs) edit(change func(list map[string]any)) {
	d.t.Helper()
	text, err := os.ReadFile(d.conflist())
	must(d.t, err)
	list := map[string]any{}
	must(d.t, json.Unmarshal(text, &list))
	change(list)
	text, err = json.Marshal(list)
	must(d.t, err)
	must(d.t, os.WriteFile(d.conflist(), text, 0o600))
}

// TestMissingPlugin names a plugin in the configuration that is not there: it is
// not chained, pods start, and status says so until it comes.
func TestMissingPlugin(t *testing.T) {
	ctx, l := build(t, alone("missing"))
	n := l.Node("r1n1")
	d := newRuntimeDirs(t, n)
	n.Edit = func(c *conf.Config) {
		c.BGP = conf.Silent()
		c.CNI.Install = d.install()
		c.CNI.Install.Plugins = []any{"bandwidth"}
	}
	must(t, n.Start(ctx))
	waitFile(ctx, t, d.conflist())
	if got := d.types(); !slices.Equal(got, []string{cni.PluginName}) {
		t.Errorf("plugins %v, want ours alone", got)
	}
	told := func() bool {
		st, err := n.Status(ctx)
		must(t, err)
		return strings.Contains(strings.Join(st.GetProblems(), "\n"), "cni.install.plugins: bandwidth not in "+d.bin)
	}
	if !told() {
		t.Error("status does not name the missing plugin")
	}
	must(t, os.Symlink(filepath.Join(referencePlugins, "bandwidth"), filepath.Join(d.bin, "bandwidth")))
	must(t, lab.Eventually(ctx, back, "the plugin is chained", func() error {
		if got := d.types(); !slices.Equal(got, []string{cni.PluginName, "bandwidth"}) || told() {
			return fmt.Errorf("plugins %v", got)
		}
		return nil
	}))
}
