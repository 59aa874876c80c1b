package install

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"onlink/cni"
)

// folders is a configuration that installs below a folder of the test.
func folders(t *testing.T) cni.Settings {
	t.Helper()
	dir := t.TempDir()
	plugin := filepath.Join(dir, "onlink-cni")
	if err := os.WriteFile(plugin, []byte("#!"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := cni.Settings{Socket: filepath.Join(dir, "cni.sock")}
	c.Install.Plugin, c.Install.BinDir, c.Install.ConfDir = plugin, filepath.Join(dir, "bin"), filepath.Join(dir, "net.d")
	return c
}

// files names what is in a folder.
func files(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

// TestPlan: what the file leaves out is where runtimes look.
func TestPlan(t *testing.T) {
	p, err := Plan(cni.Settings{Socket: "/run/onlink/cni.sock"})
	if err != nil || p.BinDir != "/opt/cni/bin" || p.ConfDir != "/etc/cni/net.d" || p.Socket != "/run/onlink/cni.sock" || filepath.Base(p.Plugin) != "onlink-cni" {
		t.Errorf("%+v, %v", p, err)
	}
	c := folders(t)
	c.Install.Plugins = []map[string]any{{"type": "portmap", "snat": false}}
	p, err = Plan(c)
	if err != nil || len(p.Chain) != 1 || p.Chain[0]["type"] != "portmap" || p.Chain[0]["snat"] != false || p.Chain[0]["capabilities"] == nil {
		t.Errorf("%+v, %v: want portmap's defaults, and what the file says over them", p.Chain, err)
	}
}

// TestRun: the plugin is there at once, its configuration when the agent can
// serve, and what somebody removes comes back.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := folders(t)
		c.Install.Plugins = []map[string]any{{"type": "portmap"}}
		plan, err := Plan(c)
		if err != nil {
			t.Fatal(err)
		}
		var serves atomic.Bool
		in := &Installer{Log: slog.New(slog.DiscardHandler), Plan: plan, Ready: func() error {
			if !serves.Load() {
				return errors.New("no block yet")
			}
			return nil
		}}
		if len(in.Problems()) > 0 || len((*Installer)(nil).Problems()) > 0 {
			t.Error("a problem before the first look")
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = in.Run(ctx) }()
		synctest.Wait()
		if got := files(t, plan.BinDir); got != "onlink-cni" || files(t, plan.ConfDir) != "" {
			t.Errorf("%q and %q before it serves", got, files(t, plan.ConfDir))
		}
		serves.Store(true)
		time.Sleep(2 * installEvery)
		synctest.Wait()
		conf := files(t, plan.ConfDir)
		if conf == "" {
			t.Fatal("no configuration though it serves")
		}
		if got := in.Problems(); len(got) != 1 || !strings.HasPrefix(got[0], "cni.install.plugins: portmap is not in ") {
			t.Errorf("problems %q", got)
		}
		serves.Store(false)
		time.Sleep(2 * installEvery)
		synctest.Wait()
		if got := files(t, plan.ConfDir); got != conf {
			t.Errorf("%q while it cannot serve, want what was there", got)
		}
		serves.Store(true)
		if err := os.RemoveAll(plan.ConfDir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * installEvery)
		synctest.Wait()
		if got := files(t, plan.ConfDir); got != conf {
			t.Errorf("%q after it was removed", got)
		}
		stop()
		synctest.Wait()
	})
}

// TestOnce: from outside nothing tells the runtime of an agent that does not
// serve; Undo takes back what is there.
func TestOnce(t *testing.T) {
	c := folders(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Once(ctx, c); err == nil || !strings.HasPrefix(err.Error(), "conflist is not installed: ") {
		t.Errorf("without an agent: %v", err)
	}
	if files(t, c.Install.BinDir) == "" || files(t, c.Install.ConfDir) != "" {
		t.Errorf("%q and %q", files(t, c.Install.BinDir), files(t, c.Install.ConfDir))
	}
	if err := Undo(c); err != nil || files(t, c.Install.BinDir) != "" {
		t.Errorf("%v, %q", err, files(t, c.Install.BinDir))
	}
}
