package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"go.yaml.in/yaml/v3"

	"onlink/cni"
	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// What deploy/ says of the rights and the folders an agent has.
const (
	unitFile = "../deploy/systemd/onlinkd.service"
	manifest = "../deploy/kubernetes/onlink.yaml"
)

// TestUnit runs agents with exactly the rights of the systemd unit: sessions
// with BFD, tunnels, masquerading, pods of both families.
func TestUnit(t *testing.T) {
	caps := unitCapabilities(t)
	ctx, l := labtest.Build(t, lab.Spec{
		Name: "unit", DualStack: true, NodesPerRack: 1, Reflectors: -1,
		Pool: lab.Pool{CIDR6: netip.MustParsePrefix("fd44::/48"), Tunnel: "vxlan", NAT: true},
	})
	for _, n := range l.Nodes() {
		n.Under = []string{"setpriv", "--no-new-privs", "--bounding-set", "-all,+" + strings.Join(caps, ",+")}
		n.Edit = func(c *conf.Config) {
			for _, p := range c.BGP.Peers {
				if p.ASN == lab.NodeASN {
					p.BFD = &conf.BFD{Interval: "300ms"}
				}
			}
		}
	}
	must(t, l.StartToRs(ctx))
	must(t, l.StartNodes(ctx))
	workers := l.Workers()
	from, err := workers[0].AddPod(ctx, "from")
	must(t, err)
	to, err := workers[1].AddPod(ctx, "to")
	must(t, err)
	must(t, l.WaitConverged(ctx))
	for _, n := range l.Nodes() {
		must(t, labtest.WaitBFD(ctx, n, 1))
	}
	const size = 1 << 16
	labtest.Sink(t, to.NS, ":80", size)
	for _, a := range to.Addrs {
		if err := lab.Eventually(ctx, 20*time.Second, "a connection to "+a.String(), func() error {
			_, err := labtest.Send(from.NS, netip.AddrPortFrom(a, 80).String(), size)
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	must(t, errors.Join(from.Check(ctx), to.Check(ctx)))
	must(t, errors.Join(from.Delete(ctx), to.Delete(ctx)))
	for _, n := range workers {
		must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error { return labtest.Leftovers(ctx, n) }))
	}
	for _, n := range l.Nodes() {
		hasOnly(t, n, caps)
	}
}

// TestUnitReadOnly runs an agent with the rights of the unit in a container whose
// /proc/sys is read-only, as most are: pods of both families get their
// interfaces and sysctls, and the tunnel is made.
func TestUnitReadOnly(t *testing.T) {
	caps := unitCapabilities(t)
	spec := labtest.Alone("readonly")
	spec.DualStack, spec.Pool = true, lab.Pool{CIDR6: netip.MustParsePrefix("fd44::/48"), Tunnel: "vxlan"}
	ctx, l := labtest.Build(t, spec)
	n := l.Node("r1n1")
	// What is the host's own to allow.
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		must(t, n.NS.Sysctl(key, "1"))
	}
	const script = `mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"`
	n.Under = []string{
		"unshare", "--mount", "sh", "-c", script, "sh",
		"setpriv", "--no-new-privs", "--bounding-set", "-all,+" + strings.Join(caps, ",+"),
	}
	n.Edit = func(c *conf.Config) { c.CNI.Sysctls = []string{"net.core.somaxconn"} }
	p, err := n.NewPod("web") // before the agent: this host's mounts may be private
	must(t, err)
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)
	must(t, readOnly(n))
	w := labtest.NewNetwork(t, n, "1.1.0", map[string]any{"type": "onlink-cni", "socket": n.CNISocket(), "sysctls": map[string]string{"net.core.somaxconn": "321"}})
	must(t, w.Status(ctx))
	rt := w.Runtime(p, nil)
	addrs, err := w.Add(ctx, rt)
	must(t, err)
	if len(addrs) != 2 {
		t.Errorf("addresses %v, want one of each family", addrs)
	}
	must(t, w.Check(ctx, rt))
	for key, want := range map[string]string{"net/ipv6/conf/eth0/accept_ra": "0", "net/core/somaxconn": "321"} {
		must(t, p.NS.Do(func() error {
			have, err := os.ReadFile("/proc/sys/" + key)
			if got := strings.TrimSpace(string(have)); got != want {
				t.Errorf("%s is %s in the pod, want %s", key, got, want)
			}
			return err
		}))
	}
	if _, err := n.NS.Link.LinkByName("onlink-vxlan"); err != nil {
		t.Errorf("no tunnel: %v", err)
	}
	must(t, w.Del(ctx, rt))
	must(t, p.Delete(ctx))
	hasOnly(t, n, caps)
}

// unitCapabilities reads the unit's capabilities as setpriv(1) names them.
func unitCapabilities(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	must(t, err)
	var caps []string
	privileged := true
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "CapabilityBoundingSet":
			for name := range strings.FieldsSeq(value) {
				caps = append(caps, strings.ToLower(strings.TrimPrefix(name, "CAP_")))
			}
		case "NoNewPrivileges":
			privileged = value != "yes"
		}
	}
	if len(caps) == 0 || privileged {
		t.Fatalf("%s: capabilities %v, want some and NoNewPrivileges=yes", unitFile, caps)
	}
	return caps
}

// hasOnly wants a running agent to have as many capabilities as there are
// names, and never to have missed another.
func hasOnly(t *testing.T, n *lab.Node, caps []string) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Process().Pid()))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		var set uint64
		if _, err := fmt.Sscanf(line, "CapEff: %x", &set); err != nil {
			continue
		}
		have := 0
		for ; set != 0; set &= set - 1 {
			have++
		}
		if have != len(caps) {
			t.Errorf("%s has %d capabilities, the unit gives %d", n.Name, have, len(caps))
		}
	}
	text, err := os.ReadFile(n.LogFile())
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "not permitted") || strings.Contains(line, "ermission denied") {
			t.Errorf("%s misses a right: %s", n.Name, line)
		}
	}
}

// TestUnitVerify has systemd read the unit.
func TestUnitVerify(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	text, err := os.ReadFile(unitFile)
	must(t, err)
	for _, line := range []string{"StartLimitIntervalSec=0", "Restart=always"} { // it never gives up
		if !bytes.Contains(text, []byte("\n"+line+"\n")) {
			t.Errorf("the unit has no %s", line)
		}
	}
	// The programs need not be installed here.
	text = bytes.ReplaceAll(text, []byte("/usr/local/bin"), []byte(labtest.Bin()))
	unit := filepath.Join(t.TempDir(), "onlinkd.service")
	must(t, os.WriteFile(unit, text, 0o644))
	if out, err := exec.CommandContext(t.Context(), verify, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// containerSpec is what this test reads of the agent's container.
type containerSpec struct {
	Name            string
	Args            []string
	SecurityContext struct {
		Capabilities struct{ Drop, Add []string }
	} `yaml:"securityContext"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
	VolumeMounts   []struct {
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct {
		Host, Path string
		Port       int
	} `yaml:"httpGet"`
}

// ask does what kubelet does.
func (p probe) ask(ctx context.Context, n *lab.Node) error {
	url := fmt.Sprintf("http://%s:%d%s", p.HTTPGet.Host, p.HTTPGet.Port, p.HTTPGet.Path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.NS.Dial}}
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s: %s", errProbe, url, answer.Status)
	}
	return nil
}

var errProbe = errors.New("a probe fails")

// containerScript makes a root with the mounts of a container, read-only as
// /proc/sys is, and becomes the agent in it. Arguments: the configuration and where
// onlink-kube init would write it; the root, the programs' folder, how many mounts,
// and each mount as what is there, path and ro or rw; the capabilities, and the path
// of the configuration in the container. What follows is not used.
const containerScript = `set -e
cp "$1" "$2"; shift 2
root=$1 bin=$2 mounts=$3; shift 3
mount -t tmpfs none "$root"
mkdir -p "$root/usr/local/bin" "$root/proc" "$root/sys" "$root/dev"
cp "$bin/onlinkd" "$bin/onlinkctl" "$bin/onlink-cni" "$root/usr/local/bin/"
mount --rbind /proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
mount --bind /proc/sys "$root/proc/sys"; mount -o remount,ro,bind "$root/proc/sys"
while [ "$mounts" -gt 0 ]; do
	mkdir -p "$root$2"
	mount --rbind "$1" "$root$2"
	[ "$3" = ro ] && mount -o remount,bind,ro "$root$2"
	shift 3; mounts=$((mounts-1))
done
mount -o remount,ro "$root"
rights=$1 config=$2; shift 2
exec setpriv --no-new-privs --groups 65532 --bounding-set "$rights" chroot "$root" /usr/local/bin/onlinkd --config "$config"`

// TestContainer runs an agent in a read-only root that has the three programs and
// the mounts of the manifest and nothing else, as the image has, with the manifest's
// capabilities, and calls it with the plugin and the configuration that it installs.
func TestContainer(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("container"))
	n := l.Node("r1n1")
	dir := t.TempDir()
	host := map[string]string{
		"/var/lib/onlink": n.StateDir(), "/run/onlink": filepath.Dir(n.CNISocket()), "/run/onlink-kube": filepath.Join(dir, "registry"),
		"/opt/cni/bin": filepath.Join(dir, "bin"), "/etc/cni/net.d": filepath.Join(dir, "net.d"),
		"/run/netns": "/run/netns", "/var/run/netns": "/run/netns",
	}
	for _, d := range []string{filepath.Join(dir, "bin"), filepath.Join(dir, "net.d"), filepath.Join(dir, "root"), filepath.Join(dir, "registry"), n.StateDir()} {
		must(t, os.MkdirAll(d, 0o755))
	}
	spec := container(t)
	mounts := spec.mounts(t, host)
	// chroot(1) needs one more than the container has.
	caps := append(spec.capabilities(t), "sys_chroot")
	n.Under = append([]string{
		"unshare", "--mount", "sh", "-c", containerScript, "container",
		n.ConfigFile(), filepath.Join(n.StateDir(), filepath.Base(spec.Args[1])),
		filepath.Join(dir, "root"), labtest.Bin(), strconv.Itoa(len(mounts) / 3),
	}, mounts...)
	n.Under = append(n.Under, "-all,+"+strings.Join(caps, ",+"), spec.Args[1])
	n.Edit = func(c *conf.Config) {
		c.Paths = conf.Paths{State: "/var/lib/onlink", Run: "/run/onlink"}
		c.CNI = conf.CNI{Socket: "/run/onlink/cni.sock", Install: &conf.Install{BinDir: "/opt/cni/bin", ConfDir: "/etc/cni/net.d"}}
		c.API.Admin.Socket = "/run/onlink/admin.sock"
	}
	p, err := n.NewPod("web") // before the agent: this host's mounts may be private
	must(t, err)
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)

	for _, p := range []probe{spec.LivenessProbe, spec.ReadinessProbe} {
		must(t, lab.Eventually(ctx, 20*time.Second, "probe "+p.HTTPGet.Path, func() error { return p.ask(ctx, n) }))
	}

	conflist := filepath.Join(host["/etc/cni/net.d"], cni.ConflistName)
	must(t, lab.Eventually(ctx, 20*time.Second, "a conflist", func() error { _, err := os.Stat(conflist); return err }))
	text, err := os.ReadFile(conflist)
	must(t, err)
	// Outside, the socket is where the mount leads.
	text, err = withSocket(text, n.CNISocket())
	must(t, err)
	list, err := libcni.NetworkConfFromBytes(text)
	must(t, err)
	w := labtest.NetworkOf(t, n, list, host["/opt/cni/bin"])
	rt := w.Runtime(p, nil)
	_, err = w.Add(ctx, rt)
	must(t, err)
	must(t, w.Check(ctx, rt))
	must(t, w.Del(ctx, rt))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error { return labtest.Traces(ctx, n) }))
	must(t, p.Delete(ctx))
	hasOnly(t, n, caps)
}

// container returns the agent's container of the manifest.
func container(t *testing.T) containerSpec {
	t.Helper()
	text, err := os.ReadFile(manifest)
	must(t, err)
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o struct {
			Kind string
			Spec struct {
				Template struct {
					Spec struct{ Containers []containerSpec }
				}
			}
		}
		must(t, d.Decode(&o))
		for _, c := range o.Spec.Template.Spec.Containers {
			if c.Name == "onlinkd" {
				return c
			}
		}
	}
}

// capabilities returns the container's capabilities as setpriv(1) names them.
func (c containerSpec) capabilities(t *testing.T) []string {
	t.Helper()
	given := c.SecurityContext.Capabilities
	if len(given.Drop) != 1 || given.Drop[0] != "ALL" || len(given.Add) == 0 {
		t.Fatalf("%s: capabilities %+v, want some and drop: [ALL]", manifest, given)
	}
	out := make([]string, 0, len(given.Add))
	for _, name := range given.Add {
		out = append(out, strings.ToLower(name))
	}
	return out
}

// mounts returns the container's mounts for containerScript; host says what is
// to be there.
func (c containerSpec) mounts(t *testing.T, host map[string]string) (args []string) {
	t.Helper()
	for _, m := range c.VolumeMounts {
		from, known := host[m.MountPath]
		if !known {
			t.Fatalf("%s mounts %s: what for?", manifest, m.MountPath)
		}
		args = append(args, from, m.MountPath, map[bool]string{true: "ro", false: "rw"}[m.ReadOnly])
	}
	return args
}

// withSocket returns a conflist whose plugin looks for the agent at a path.
func withSocket(conflist []byte, socket string) ([]byte, error) {
	var list map[string]any
	if err := json.Unmarshal(conflist, &list); err != nil {
		return nil, err
	}
	list["plugins"].([]any)[0].(map[string]any)["socket"] = socket
	return json.Marshal(list)
}

// readOnly wants /proc/sys of a running agent to be read-only.
func readOnly(n *lab.Node) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", n.Process().Pid()))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "/proc/sys" && strings.HasPrefix(f[3], "ro,") {
			return nil
		}
	}
	return fmt.Errorf("/proc/sys is not read-only: %s", text)
}
