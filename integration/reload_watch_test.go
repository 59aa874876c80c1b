package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestReloadWatch changes the file of a running agent in the way a mounted
// ConfigMap changes: the new one is taken in by itself, a wrong one is not and
// status says why, and the sessions stay up.
func TestReloadWatch(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("rwatch"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	dir := filepath.Dir(n.ConfigFile())
	mount := func(change func(*conf.Config), more ...string) { // what WriteConfig writes, behind ..data
		c := n.Config()
		c.Reload = "watch"
		change(c)
		text, err := c.YAML()
		must(t, err)
		path, err := n.WriteText("next.yaml", append(text, strings.Join(more, "")...))
		must(t, err)
		version := filepath.Join(dir, "..v"+strconv.FormatInt(time.Now().UnixNano(), 10))
		must(t, errors.Join(os.Mkdir(version, 0o700), os.Rename(path, filepath.Join(version, "onlinkd.yaml")), os.Symlink(filepath.Base(version), filepath.Join(dir, "..tmp")),
			os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data"))))
	}
	n.Edit = func(c *conf.Config) { c.Reload = "watch" }
	labtest.StartNode(ctx, t, n)
	must(t, lab.Eventually(ctx, 20*time.Second, "the session to the ToR", func() error {
		if len(labtest.Sessions(ctx, t, n)) != 1 {
			return errors.New("it is not up")
		}
		return nil
	}))
	before := labtest.Sessions(ctx, t, n)
	adding := func(name string) func(*conf.Config) {
		return func(c *conf.Config) {
			c.BGP.Peers = append(c.BGP.Peers, &conf.Peer{Name: name, Address: "10.57.1.200", Passive: true})
		}
	}
	taken := func(name string) {
		t.Helper()
		must(t, lab.Eventually(ctx, 20*time.Second, "the peer "+name, func() error {
			out, err := n.Ctl(ctx, "peers")
			if err == nil && !strings.Contains(out.Stdout, name) {
				err = errors.New(out.Stdout)
			}
			return err
		}))
	}
	problem := func(want string) {
		t.Helper()
		must(t, lab.Eventually(ctx, 20*time.Second, "status to say: "+want, func() error {
			st, err := n.Status(ctx)
			if err != nil {
				return err
			}
			for _, p := range st.GetProblems() {
				if strings.Contains(p, "configuration is not in force") == (want != "") && strings.Contains(p, want) {
					return nil
				}
			}
			if want == "" && !strings.Contains(strings.Join(st.GetProblems(), "\n"), "configuration is not in force") {
				return nil
			}
			return fmt.Errorf("problems %q", st.GetProblems())
		}))
	}
	mount(adding("first"))
	must(t, os.Remove(n.ConfigFile()))
	must(t, os.Symlink("..data/onlinkd.yaml", n.ConfigFile()))
	taken("first")
	mount(func(*conf.Config) {}, "nonsense: 1\n")
	problem("nonsense")
	if out, err := n.Ctl(ctx, "config", "reload"); err != nil || out.Code == 0 || !strings.Contains(out.Stderr, "nonsense") {
		t.Errorf("config reload of a wrong file: %v %q", err, out.Stderr)
	}
	taken("first") // the last good one
	mount(adding("second"))
	taken("second")
	problem("")
	after := labtest.Sessions(ctx, t, n)
	for name, s := range before {
		if after[name].Flaps != s.Flaps {
			t.Errorf("the session to %s was reset", name)
		}
	}
}
