package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestMachine: a node is a machine of its own, which a power cut ends with all that
// runs and is mounted in it, and which keeps its disk; the host keeps nothing.
func TestMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	name := fmt.Sprintf("k%d-machine", os.Getpid())
	l, err := lab.Build(ctx, lab.Spec{Name: name, Racks: 1, NodesPerRack: 1, Reflectors: -1}, lab.Options{})
	labtest.Must(t, err)
	c := &Cluster{Options: Options{Name: name}, Lab: l, own: filepath.Join(l.Dir, "programs")}
	n := &Node{Node: l.Nodes()[0], cluster: c}
	c.Nodes = []*Node{n}
	t.Cleanup(func() { labtest.Must(t, c.Stop()) })
	labtest.Must(t, Programs(ctx, c.own))

	run := func(argv ...string) string {
		t.Helper()
		text, err := n.Exec(ctx, argv...)
		labtest.Must(t, err)
		return strings.TrimSpace(text)
	}
	const boot = "/proc/sys/kernel/random/boot_id"
	host, err := os.ReadFile(boot)
	labtest.Must(t, err)

	labtest.Must(t, n.power())
	first := run("cat", boot)
	if first == strings.TrimSpace(string(host)) {
		t.Error("the node has the host's boot ID")
	}
	if name := run("hostname"); name != n.Name {
		t.Errorf("the node's host name is %q, want %q", name, n.Name)
	}
	run("sh", "-c", "echo kept >/etc/onlink-test && echo kept >/var/lib/kubelet/onlink-test && echo lost >/run/onlink-test")
	run("ip", "link", "add", "onlink-test", "type", "veth")
	sleeper, err := n.Daemon("sleeper", "sleep", "1000")
	labtest.Must(t, err)
	if text := run("sh", "-c", "echo /proc/[0-9]*"); len(strings.Fields(text)) > 4 {
		t.Errorf("the node sees the processes %s", text)
	}

	labtest.Must(t, n.Cut())
	labtest.Must(t, lab.Eventually(ctx, labtest.Patience, "end of the node's process", func() error {
		if !sleeper.Exited() {
			return os.ErrExist
		}
		return nil
	}))
	if _, err := n.Exec(ctx, "true"); err == nil {
		t.Error("a command ran in a node without power")
	}
	labtest.Must(t, n.Plug())
	n.used = true
	labtest.Must(t, n.power())
	if second := run("cat", boot); second == first {
		t.Error("the boot ID is that of the boot before")
	}
	if text := run("cat", "/etc/onlink-test", "/var/lib/kubelet/onlink-test"); text != "kept\nkept" {
		t.Errorf("the disk has %q", text)
	}
	run("sh", "-c", "! test -e /run/onlink-test && ! ip link show onlink-test")
	run("ping", "-c1", "-W5", l.Racks[0].ToRs[0].Addr.String())

	if _, err := os.Stat("/etc/onlink-test"); err == nil {
		t.Error("the node wrote to the host's /etc")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	labtest.Must(t, err)
	if strings.Contains(string(mounts), l.Dir) {
		t.Errorf("the host sees mounts of the node:\n%s", mounts)
	}
}
