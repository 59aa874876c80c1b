package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"onlink/cni"
	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestInstallCNI installs the plugin on a node whose agent does not run, then
// cannot serve, then serves; upgrades it many times under pods that come and
// go; and removes it from under a pod that stays.
func TestInstallCNI(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("install"))
	n := l.Node("r1n1")
	d := labtest.NewRuntimeDirs(t, n)
	n.Edit = func(c *conf.Config) { c.Pools = conf.List[conf.Pool]{} } // an agent that has no addresses to give
	must(t, l.StartToRs(ctx))
	_, err := n.WriteConfig("onlinkd.yaml", n.Config())
	must(t, err)
	if code, said := d.Run(ctx, "install-cni", "--wait", "100ms"); code != 1 || !strings.Contains(said, "conflist is not installed") || labtest.Exists(d.Conflist()) {
		t.Errorf("without an agent: exit code %d, conflist there: %v; said %q", code, labtest.Exists(d.Conflist()), said)
	}

	installing, err := n.Run("install-cni", filepath.Join(t.TempDir(), "log"), "onlinkd", append([]string{"install-cni"}, d.Flags("--wait", "2m")...)...)
	must(t, err)
	labtest.WaitFile(ctx, t, d.Plugin())
	must(t, n.Start(ctx))
	must(t, lab.Eventually(ctx, time.Minute, "the agent says that it has no addresses", func() error { return saysNoAddresses(ctx, n) }))
	if labtest.Exists(d.Conflist()) || installing.Exited() {
		t.Fatalf("the runtime is told of a network that has no addresses (install-cni ended: %v)", installing.Exited())
	}
	labtest.ReloadPools(ctx, t, n, n.Config().Pools...)
	if code, err := installing.Wait(ctx); err != nil || code != 0 {
		t.Fatalf("install-cni: exit code %d, %v\n%s", code, err, installing.Tail(5))
	}
	if !labtest.Exists(d.Conflist()) {
		t.Fatal("install-cni ended without a conflist")
	}

	stays, err := n.NewPod("stays")
	must(t, err)
	w := d.Network()
	rt := w.Runtime(stays, nil)
	addrs, err := w.Add(ctx, rt)
	must(t, err)
	upgrade(ctx, t, d)
	must(t, w.Check(ctx, rt))

	for range 2 {
		if code, said := d.Run(ctx, "uninstall-cni"); code != 0 || labtest.Exists(d.Plugin()) || labtest.Exists(d.Conflist()) {
			t.Errorf("uninstall-cni: exit code %d, plugin there: %v, conflist there: %v; said %q", code, labtest.Exists(d.Plugin()), labtest.Exists(d.Conflist()), said)
		}
	}
	_, err = n.NS.Ping(ctx, addrs[0], 1, 20*time.Second)
	must(t, err)
	if code, said := d.Run(ctx, "install-cni"); code != 0 {
		t.Fatalf("install-cni again: exit code %d: %s", code, said)
	}
	must(t, w.Del(ctx, rt))
	must(t, lab.Eventually(ctx, 20*time.Second, "nothing is left", func() error { return labtest.Leftovers(ctx, n) }))
}

// saysNoAddresses wants STATUS to answer that nothing can be served.
func saysNoAddresses(ctx context.Context, n *lab.Node) error {
	out, err := n.Exec(ctx, lab.Command{
		Program: "onlink-cni", Env: []string{"CNI_COMMAND=STATUS", "CNI_PATH=/"},
		Stdin: fmt.Appendf(nil, `{"cniVersion":"1.1.0","name":"onlink","type":"onlink-cni","socket":%q}`, n.CNISocket()),
	})
	if err != nil {
		return err
	}
	if !strings.Contains(out.Stdout, `"code":50`) || !strings.Contains(out.Stdout, "no pool") {
		return fmt.Errorf("%w: %s", errStatus, out.Stdout)
	}
	return nil
}

var errStatus = errors.New("STATUS does not say that there are no addresses")

// upgrade installs one plugin over the other, again and again, while a runtime
// reads the folders and pods come and go: every file is one version or the
// other, whole, and no pod fails.
func upgrade(ctx context.Context, t *testing.T, d labtest.RuntimeDirs) {
	t.Helper()
	old, err := os.ReadFile(d.Plugin())
	must(t, err)
	next := append(slices.Clone(old), bytes.Repeat([]byte("next"), 1<<14)...) // a program all the same
	var paths [2]string
	for i, text := range [][]byte{old, next} {
		paths[i] = filepath.Join(t.TempDir(), cni.PluginName)
		must(t, os.WriteFile(paths[i], text, 0o700))
	}
	conflist, err := os.ReadFile(d.Conflist())
	must(t, err)

	end := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { readFolders(t, d, end, conflist, old, next) })
	pods := 0
	others.Go(func() { pods = comeAndGo(ctx, t, d, end) })
	for i := range 20 {
		if code, said := d.Run(ctx, "install-cni", "--plugin", paths[(i+1)%2]); code != 0 {
			t.Errorf("install-cni: exit code %d: %s", code, said)
		}
	}
	close(end)
	others.Wait()
	if pods == 0 {
		t.Error("no pod came while the plugin was replaced")
	}
	t.Logf("%d pods came and went during 20 upgrades", pods)
}

// readFolders reads the folders until end as a runtime does.
func readFolders(t *testing.T, d labtest.RuntimeDirs, end <-chan struct{}, conflist []byte, plugins ...[]byte) {
	for {
		select {
		case <-end:
			return
		default:
		}
		if text, err := os.ReadFile(d.Conflist()); err != nil || !bytes.Equal(text, conflist) {
			t.Errorf("conflist is %q (%v)", text, err)
			return
		}
		text, err := os.ReadFile(d.Plugin())
		if err != nil || !slices.ContainsFunc(plugins, func(p []byte) bool { return bytes.Equal(p, text) }) {
			t.Errorf("the plugin has %d bytes (%v), and is neither of the two", len(text), err)
			return
		}
		files, err := libcni.ConfFiles(d.Conf, []string{".conf", ".conflist", ".json"})
		if err != nil || !slices.Equal(files, []string{d.Conflist()}) {
			t.Errorf("the runtime sees the configurations %v (%v)", files, err)
			return
		}
	}
}

// comeAndGo attaches and detaches pods until end and returns how many.
func comeAndGo(ctx context.Context, t *testing.T, d labtest.RuntimeDirs, end <-chan struct{}) (count int) {
	w := d.Network()
	for {
		select {
		case <-end:
			return count
		default:
		}
		p, err := d.Node.NewPod(fmt.Sprintf("p%d", count))
		if err == nil {
			rt := w.Runtime(p, nil)
			_, err = w.Add(ctx, rt)
			err = errors.Join(err, w.Del(ctx, rt))
		}
		if err != nil {
			t.Errorf("pod %d: %v", count, err)
			return count
		}
		count++
	}
}

// TestAgentInstalls has the agent itself install the plugin, put back what
// somebody removes, and leave it where it is when it ends.
func TestAgentInstalls(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("selfinst"))
	n := l.Node("r1n1")
	d := labtest.NewRuntimeDirs(t, n)
	n.Edit = func(c *conf.Config) {
		c.BGP = conf.Silent()
		c.CNI.Install = d.Install()
	}
	must(t, n.Start(ctx))
	for _, path := range []string{d.Plugin(), d.Conflist()} {
		labtest.WaitFile(ctx, t, path)
		must(t, os.Remove(path))
		labtest.WaitFile(ctx, t, path)
	}
	must(t, syscall.Kill(n.Process().Pid(), syscall.SIGTERM))
	if _, err := n.Process().Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if !labtest.Exists(d.Plugin()) || !labtest.Exists(d.Conflist()) {
		t.Error("the agent removed the plugin or its conflist when it ended")
	}
}
