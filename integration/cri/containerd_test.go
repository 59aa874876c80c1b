//go:debug multipathtcp=0
package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/integration/uml"
)

// limit bounds one test; user-mode Linux needs most of it.
const limit = 5 * time.Minute

// pauseName and loopbackName are what the test binary is called when it is the
// only process of a pod, and the plugin that containerd brings lo up with.
const (
	pauseName    = "/pause"
	loopbackName = "loopback"
)

func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == pauseName:
		select {}
	case filepath.Base(os.Args[0]) == loopbackName:
		if err := loopback(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(labtest.Main(m))
}

// loopback is CNI's plugin of this name: containerd insists on it.
func loopback() error {
	if os.Getenv("CNI_COMMAND") != "ADD" {
		return nil
	}
	ns, err := netns.GetFromPath(os.Getenv("CNI_NETNS"))
	if err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	fmt.Println(`{"cniVersion":"0.3.1","interfaces":[{"name":"lo"}]}`)
	return h.LinkSetUp(lo)
}

// bed is a node with an agent and a containerd.
type bed struct {
	t          *testing.T
	lab        *lab.Lab
	node       *lab.Node
	containerd *Containerd
	client     *Client
	dir        string
}

// program returns a static program that waits for ever: this binary where it
// is static, as in user-mode Linux, which has no Go.
func program(t *testing.T) string {
	t.Helper()
	if os.Getenv("ONLINK_BED") == "uml" {
		self, err := os.Executable()
		labtest.Must(t, err)
		return self
	}
	path := filepath.Join(t.TempDir(), "pause")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./pause")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("build pause: %v\n%s", err, out)
	}
	return path
}

// newBed starts a node's agent, which installs itself into containerd, and
// containerd.
func newBed(ctx context.Context, t *testing.T, spec lab.Spec) *bed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	spec.Name = fmt.Sprintf("c%d-%s", os.Getpid(), spec.Name)
	l, err := lab.Build(ctx, spec, lab.Options{Bin: labtest.Bin()})
	labtest.Must(t, err)
	dir, err := os.MkdirTemp("", "ctd") // short: containerd makes unix sockets in it
	labtest.Must(t, err)
	b := &bed{t: t, lab: l, node: l.Workers()[0], dir: dir}
	t.Cleanup(b.close)
	labtest.Must(t, l.StartToRs(ctx))
	b.containerd, err = New(b.node, dir)
	labtest.Must(t, err)
	self, err := os.Executable()
	labtest.Must(t, err)
	labtest.Must(t, os.Symlink(self, filepath.Join(b.containerd.BinDir, loopbackName)))
	labtest.Must(t, b.containerd.Start(ctx))
	labtest.Must(t, b.containerd.Load(ctx, program(t)))
	b.client, err = Dial(b.containerd.Socket())
	labtest.Must(t, err)
	if err := b.client.NetworkReady(ctx); !errors.Is(err, errNoNetwork) {
		t.Fatalf("without agent the runtime says: %v", err)
	}
	b.node.Edit = func(c *conf.Config) {
		c.CNI.Install = &conf.Install{BinDir: b.containerd.BinDir, ConfDir: b.containerd.ConfDir}
	}
	labtest.Must(t, l.StartNodes(ctx))
	labtest.Must(t, lab.Eventually(ctx, time.Minute, "the runtime has a network", func() error { return b.client.NetworkReady(ctx) }))
	return b
}

// close ends all pods, then everything else.
func (b *bed) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if b.client != nil {
		if ids, err := b.client.List(ctx); err == nil {
			for _, id := range ids {
				b.t.Logf("pod %s was left: stop %v, remove %v", id, b.client.Stop(ctx, id), b.client.Remove(ctx, id))
			}
		}
		_ = b.client.Close()
	}
	if b.t.Failed() {
		b.t.Logf("log of onlinkd:\n%s\nlog of containerd:\n%s", b.node.Logs(40), b.containerd.Tail())
	}
	if b.containerd != nil && b.containerd.proc != nil {
		if err := b.containerd.Stop(); err != nil {
			b.t.Error(err)
		}
	}
	if err := b.lab.Close(); err != nil {
		b.t.Error(err)
	}
	unmountBelow(b.t, b.dir)
	if err := os.RemoveAll(b.dir); err != nil {
		b.t.Error(err)
	}
}

// unmountBelow detaches what a pod that could not be removed has mounted.
func unmountBelow(t *testing.T, dir string) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			t.Errorf("%s is still mounted", f[1])
			_ = unix.Unmount(f[1], unix.MNT_DETACH)
		}
	}
}

func (b *bed) pod(i int) Pod {
	return Pod{Namespace: "default", Name: fmt.Sprintf("web-%d", i), UID: fmt.Sprintf("uid-%d", i), LogDir: filepath.Join(b.dir, "logs")}
}

// reach pings the pod's address from the node.
func (b *bed) reach(ctx context.Context, addr netip.Addr) error {
	return lab.Eventually(ctx, 20*time.Second, fmt.Sprintf("ping %s", addr), func() error {
		_, err := b.node.NS.Ping(ctx, addr, 1, time.Second)
		return err
	})
}

// clean waits until nothing of any pod is left on the node.
func (b *bed) clean(ctx context.Context) {
	b.t.Helper()
	labtest.Must(b.t, lab.Eventually(ctx, 30*time.Second, "nothing is left", func() error {
		st, err := b.node.Status(ctx)
		if err != nil {
			return err
		}
		if n := st.GetAddressesUsed(); n != 0 {
			return fmt.Errorf("%d addresses are in use", n)
		}
		links, err := b.node.NS.Link.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Alias, "onlink default/") {
				return fmt.Errorf("veth %s is left", l.Attrs().Name)
			}
		}
		return nil
	}))
}

func direct(name string) lab.Spec {
	return lab.Spec{Name: name, Racks: 1, NodesPerRack: 1, Reflectors: -1, Pool: lab.Pool{Tunnel: "none"}}
}

func need(t *testing.T) context.Context {
	t.Helper()
	for _, p := range []string{"containerd", "ctr", "runc"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%v; make deps installs it", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// TestPodLife runs one pod from the sandbox to its removal, and has containerd
// and the agent restarted in the middle: the node's runtime learns of its
// network when the agent serves, and no restart costs the pod anything.
func TestPodLife(t *testing.T) {
	ctx := need(t)
	b := newBed(ctx, t, direct("life"))
	p := b.pod(0)
	id, err := b.client.Run(ctx, p)
	labtest.Must(t, err)
	addr, err := b.client.Address(ctx, id)
	labtest.Must(t, err)
	labtest.Must(t, b.reach(ctx, addr))
	labtest.Must(t, b.client.StartContainer(ctx, id, p, PauseImage))

	labtest.Must(t, b.containerd.Kill())
	labtest.Must(t, b.reach(ctx, addr))
	labtest.Must(t, b.containerd.Start(ctx))
	if again, err := b.client.Address(ctx, id); err != nil || again != addr {
		t.Errorf("after containerd's restart the pod has %v, %v; want %v", again, err, addr)
	}

	labtest.Must(t, b.node.Kill())
	labtest.Must(t, b.reach(ctx, addr))
	if err := b.client.NetworkReady(ctx); err != nil {
		t.Errorf("an agent that restarts makes the node unready: %v", err)
	}
	if _, err := b.client.Run(ctx, b.pod(1)); err == nil {
		t.Error("a pod ran without an agent")
	}
	labtest.Must(t, b.node.Start(ctx))
	labtest.Must(t, b.node.WaitReady(ctx))
	labtest.Must(t, b.reach(ctx, addr))
	_, err = b.client.Run(ctx, b.pod(2))
	labtest.Must(t, err)

	ids, err := b.client.List(ctx) // with the one that could not run
	labtest.Must(t, err)
	for _, id := range ids {
		labtest.Must(t, b.client.Stop(ctx, id)) // DEL with the namespace
		labtest.Must(t, b.client.Stop(ctx, id))
		labtest.Must(t, b.client.Remove(ctx, id)) // DEL without it
		labtest.Must(t, b.client.Remove(ctx, id))
	}
	b.clean(ctx)
}

// TestManyPods runs pods at once, and kills the agent while they end.
func TestManyPods(t *testing.T) {
	ctx := need(t)
	b := newBed(ctx, t, direct("many"))
	const pods = 50
	ids, errs := make([]string, pods), make([]error, pods)
	var all sync.WaitGroup
	for i := range pods {
		all.Go(func() { ids[i], errs[i] = b.client.Run(ctx, b.pod(i)) })
	}
	all.Wait()
	labtest.Must(t, errors.Join(errs...))
	seen := map[netip.Addr]bool{}
	for _, id := range ids {
		addr, err := b.client.Address(ctx, id)
		labtest.Must(t, err)
		if seen[addr] {
			t.Errorf("two pods have %s", addr)
		}
		seen[addr] = true
	}
	for _, id := range ids {
		all.Go(func() {
			// As kubelet does: again until it works.
			err := lab.Eventually(ctx, time.Minute, "end pod", func() error {
				if err := b.client.Stop(ctx, id); err != nil {
					return err
				}
				return b.client.Remove(ctx, id)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	labtest.Must(t, b.node.Kill())
	labtest.Must(t, b.node.Start(ctx))
	labtest.Must(t, b.node.WaitReady(ctx))
	all.Wait()
	b.clean(ctx)
}

// TestReboot kills all pods and both daemons at once, as a reboot does, and
// takes the namespaces away: the agent and containerd start on what is left.
func TestReboot(t *testing.T) {
	ctx := need(t)
	b := newBed(ctx, t, direct("boot"))
	id, err := b.client.Run(ctx, b.pod(0))
	labtest.Must(t, err)
	labtest.Must(t, b.containerd.Kill())
	labtest.Must(t, b.node.Kill())
	labtest.Must(t, b.endPod(ctx, id))
	labtest.Must(t, b.node.Start(ctx))
	labtest.Must(t, b.node.WaitReady(ctx))
	labtest.Must(t, b.containerd.Start(ctx))
	b.clean(ctx)
	labtest.Must(t, b.client.Stop(ctx, id)) // kubelet's cleaning up
	labtest.Must(t, b.client.Remove(ctx, id))
	id, err = b.client.Run(ctx, b.pod(1))
	labtest.Must(t, err)
	labtest.Must(t, b.client.Stop(ctx, id))
	labtest.Must(t, b.client.Remove(ctx, id))
	b.clean(ctx)
}

// runcRoot is where containerd's shim has runc keep its state.
const runcRoot = "/run/containerd/runc/k8s.io"

// endPod ends the pod's processes and its namespace without telling anybody.
func (b *bed) endPod(ctx context.Context, id string) error {
	text, err := exec.CommandContext(ctx, "runc", "--root", runcRoot, "state", id).Output()
	if err != nil {
		return fmt.Errorf("runc state: %w", err)
	}
	var state struct{ Pid int }
	if err := json.Unmarshal(text, &state); err != nil {
		return fmt.Errorf("runc state: %w", err)
	}
	pod, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", state.Pid))
	if err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, "runc", "--root", runcRoot, "delete", "--force", id).Run(); err != nil {
		return fmt.Errorf("runc delete: %w", err)
	}
	names, err := filepath.Glob("/run/netns/cni-*")
	if err != nil {
		return err
	}
	for _, name := range names {
		if st, err := os.Stat(name); err == nil && os.SameFile(st, pod) {
			return errors.Join(unix.Unmount(name, unix.MNT_DETACH), os.Remove(name))
		}
	}
	return fmt.Errorf("namespace of %s: %w", id, fs.ErrNotExist)
}

// TestTunnel is the whole path of kubelet with the pods of two racks, and ipip
// between them.
func TestTunnel(t *testing.T) {
	if !uml.HasIPIP() {
		t.Skip("needs kernel feature: ipip")
	}
	ctx := need(t)
	b := newBed(ctx, t, lab.Spec{Name: "ipip", Racks: 2, NodesPerRack: 1, Reflectors: 1})
	labtest.Must(t, b.lab.WaitConverged(ctx))
	far, err := b.lab.Workers()[1].AddPod(ctx, "far")
	labtest.Must(t, err)
	id, err := b.client.Run(ctx, b.pod(0))
	labtest.Must(t, err)
	addr, err := b.client.Address(ctx, id)
	labtest.Must(t, err)
	labtest.Must(t, lab.Eventually(ctx, 30*time.Second, "ping over the tunnel", func() error {
		_, err := far.NS.Ping(ctx, addr, 1, time.Second)
		return err
	}))
	labtest.Must(t, b.client.Stop(ctx, id))
	labtest.Must(t, b.client.Remove(ctx, id))
	b.clean(ctx)
}
