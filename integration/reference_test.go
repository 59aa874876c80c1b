package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// update rewrites what tests generate into the documentation:
//
//	go test ./integration -run TestReference -args -update
var update = flag.Bool("update", false, "rewrite generated documentation")

// TestReference runs the same cases, as a container runtime would, against
// onlink and against the reference plugins ptp and host-local. Where the two
// do not answer alike the case must say why, and the table in docs/cni.md must
// be the one of this run.
func TestReference(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(filepath.Join(labtest.ReferencePlugins, "ptp")); err != nil {
		t.Fatalf("%v; make deps installs it", err)
	}
	ctx, l := labtest.Build(t, labtest.Alone("ref"))
	n := l.Node("r1n1")
	ours, theirs := onlinkSide(ctx, t, n), ptpSide(t)
	var table strings.Builder
	table.WriteString("| case | onlink | ptp + host-local | why |\n|---|---|---|---|\n")
	for _, c := range referenceCases {
		t.Run(c.name, func(t *testing.T) {
			a, b := c.run(ctx, ours.in(t)), c.run(ctx, theirs.in(t))
			switch {
			case a == b && c.why != "":
				t.Errorf("both: %s; then there is nothing to explain: %s", a, c.why)
			case a != b && c.why == "":
				t.Errorf("onlink: %s\nptp: %s\nthe difference is not explained", a, b)
			}
			if a == b {
				b = "the same"
			}
			fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", c.name, a, b, c.why)
		})
	}
	must(t, lab.Eventually(ctx, 20*time.Second, "nothing is left", func() error { return labtest.Traces(ctx, n) }))
	generated(t, filepath.Join("..", "docs", "cni.md"), "reference", table.String())
}

// generated compares a part of a document with what a test found, or writes it.
func generated(t *testing.T, path, name, want string) {
	t.Helper()
	begin, end := "<!-- "+name+": generated -->\n", "<!-- "+name+": end -->\n"
	text, err := os.ReadFile(path)
	must(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no part %q", path, name)
	}
	switch {
	case t.Failed() || have == want:
	case *update:
		must(t, os.WriteFile(path, []byte(before+begin+want+end+after), 0o644))
	default:
		t.Errorf("%s is stale, run: go test ./integration -run %s -args -update\nhave:\n%s\nwant:\n%s", path, t.Name(), have, want)
	}
}

// The kinds of addresses that a case can ask for.
const (
	kind4     = "v4"
	kind6     = "v6"
	kindDual  = "dual"
	kindSmall = "small"   // one range of a few addresses, then another
	kindSets  = "sets"    // two independent ranges of one family
	kindNone  = "nothing" // no place to take addresses from
)

// side is one of the two plugins, on a node of its own.
type side struct {
	t      *testing.T
	host   func(func() error) error // runs in the node's namespace
	dirs   []string                 // of plugins
	cache  string
	plugin func(kind string) map[string]any // the configuration of the plugin
	made   *int
}

// in returns the side for one case.
func (s side) in(t *testing.T) side { s.t = t; return s }

func onlinkSide(ctx context.Context, t *testing.T, n *lab.Node) side {
	t.Helper()
	c := n.Config()
	c.BGP = conf.Silent()
	c.IPAM = conf.IPAM{Registry: conf.Registry{Kind: "bolt"}}
	pool := func(name, cidr string, size int) conf.Pool {
		return conf.Pool{Name: name, CIDR: cidr, BlockSize: size, Encapsulation: "Never", Tunnel: "none", NATOutgoing: new(false)}
	}
	c.Pools = []conf.Pool{
		pool("v4", "10.66.0.0/24", 26), pool("v6", "fd66::/112", 122), pool("more", "10.69.0.0/24", 26),
		pool("small1", "10.67.0.0/30", 30), pool("small2", "10.68.0.0/30", 30),
	}
	path, err := n.WriteConfig("reference.yaml", c)
	must(t, err)
	_, err = n.Run("onlinkd", n.LogFile(), "onlinkd", "--config", path)
	must(t, err)
	must(t, n.WaitReady(ctx))
	pools := map[string][]string{
		kind4: {"v4"}, kind6: {"v6"}, kindDual: {"v4", "v6"}, kindSmall: {"small1", "small2"}, kindSets: {"v4", "more"}, kindNone: {"nothing"},
	}
	return newSide(t, n.NS.Do, labtest.Bin(), func(kind string) map[string]any {
		return map[string]any{"type": "onlink-cni", "socket": n.CNISocket(), "pools": pools[kind], "capabilities": map[string]bool{"ips": true, "mac": true}}
	})
}

func ptpSide(t *testing.T) side {
	t.Helper()
	home := filepath.Join(t.TempDir(), "host")
	must(t, labtest.MakeNetns(home))
	t.Cleanup(func() { must(t, labtest.DropNetns(home)) })
	data := t.TempDir()
	subnets := func(list ...string) (set []any) {
		for _, s := range list {
			set = append(set, map[string]any{"subnet": s})
		}
		return set
	}
	const v4, v6 = "10.66.0.0/24", "fd66::/112"
	ranges := map[string][]any{
		kind4: {subnets(v4)}, kind6: {subnets(v6)}, kindDual: {subnets(v4), subnets(v6)},
		kindSmall: {subnets("10.67.0.0/30", "10.68.0.0/30")}, kindSets: {subnets(v4), subnets("10.69.0.0/24")},
	}
	default4, default6 := map[string]any{"dst": "0.0.0.0/0"}, map[string]any{"dst": "::/0"}
	routes := map[string][]any{
		kind4: {default4}, kind6: {default6}, kindDual: {default4, default6}, kindSmall: {default4}, kindSets: {default4},
	}
	return newSide(t, func(f func() error) error { return labtest.Inside(home, f) }, labtest.ReferencePlugins, func(kind string) map[string]any {
		p := map[string]any{"type": "ptp", "capabilities": map[string]bool{"ips": true, "mac": true}}
		if r := ranges[kind]; r != nil {
			p["ipam"] = map[string]any{"type": "host-local", "dataDir": data, "ranges": r, "routes": routes[kind]}
		}
		return p
	})
}

// nodeAddress4 and nodeAddress6 are what a pod sends to.
const (
	nodeAddress4 = "198.51.100.1"
	nodeAddress6 = "2001:db8:99::1"
)

func newSide(t *testing.T, host func(func() error) error, dir string, plugin func(string) map[string]any) side {
	t.Helper()
	must(t, host(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, a := range []string{nodeAddress4 + "/32", nodeAddress6 + "/128"} {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(lo, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(lo)
	}))
	return side{t: t, host: host, dirs: []string{dir, labtest.ReferencePlugins}, cache: t.TempDir(), plugin: plugin, made: new(int)}
}

// want is what a case asks for.
type want struct {
	kind    string
	version string // empty: 1.0.0
	mtu     int
	ips     []string
	mac     string
	args    [][2]string
}

// box is a container: a namespace with an ID.
type box struct {
	id, path string
}

// box makes a container; its namespace goes with the test.
func (s side) box() box {
	s.t.Helper()
	*s.made++
	b := box{fmt.Sprintf("%064x", *s.made), filepath.Join(s.t.TempDir(), "ns")}
	must(s.t, labtest.MakeNetns(b.path))
	s.t.Cleanup(func() { must(s.t, labtest.DropNetns(b.path)) })
	return b
}

// call is one verb of libcni on a container's interface.
func (s side) call(b box, ifName string, w want, verb func(*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf) error) error {
	s.t.Helper()
	p := s.plugin(w.kind)
	if w.mtu != 0 {
		p["mtu"] = w.mtu
	}
	if w.version == "" {
		w.version = "1.0.0"
	}
	text, err := json.Marshal(map[string]any{"cniVersion": w.version, "name": "reference", "plugins": []any{p}})
	must(s.t, err)
	list, err := libcni.NetworkConfFromBytes(text)
	must(s.t, err)
	capabilities := map[string]any{}
	if w.ips != nil {
		capabilities["ips"] = w.ips
	}
	if w.mac != "" {
		capabilities["mac"] = w.mac
	}
	rt := &libcni.RuntimeConf{ContainerID: b.id, NetNS: b.path, IfName: ifName, CapabilityArgs: capabilities, Args: w.args}
	return s.host(func() error { return verb(libcni.NewCNIConfigWithCacheDir(s.dirs, s.cache, nil), list, rt) })
}

func (s side) add(ctx context.Context, b box, ifName string, w want) (result *types100.Result, err error) {
	s.t.Helper()
	err = s.call(b, ifName, w, func(c *libcni.CNIConfig, l *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		got, err := c.AddNetworkList(ctx, l, rt)
		if err != nil {
			return err
		}
		result, err = types100.NewResultFromResult(got)
		return err
	})
	return result, err
}

func (s side) del(ctx context.Context, b box, ifName string, w want) error {
	s.t.Helper()
	return s.call(b, ifName, w, func(c *libcni.CNIConfig, l *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.DelNetworkList(ctx, l, rt)
	})
}

func (s side) check(ctx context.Context, b box, ifName string, w want) error {
	s.t.Helper()
	return s.call(b, ifName, w, func(c *libcni.CNIConfig, l *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
		return c.CheckNetworkList(ctx, l, rt)
	})
}

// raw starts the plugin itself.
func (s side) raw(ctx context.Context, stdin string, env ...string) string {
	s.t.Helper()
	name, _ := s.plugin(kind4)["type"].(string)
	cmd := exec.CommandContext(ctx, filepath.Join(s.dirs[0], name))
	cmd.Env = slices.Concat(env, []string{"CNI_PATH=" + strings.Join(s.dirs, ":")})
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout = &out
	err := s.host(cmd.Run)
	var o types.Error
	if err != nil && json.Unmarshal(out.Bytes(), &o) == nil {
		return outcome(&o)
	}
	return outcome(err)
}

// conf is the plugin's configuration for a raw call.
func (s side) conf() string {
	p := s.plugin(kind4)
	p["cniVersion"], p["name"] = "1.0.0", "reference"
	text, err := json.Marshal(p)
	must(s.t, err)
	return string(text)
}

// outcome says how a call ended.
func outcome(err error) string {
	var e *types.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return fmt.Sprintf("error %d", e.Code)
	}
	return "error without a code"
}

// describe says what a result gives a pod, without the addresses themselves.
func describe(r *types100.Result) string {
	var parts []string
	for _, ip := range r.IPs {
		ones, bits := ip.Address.Mask.Size()
		parts = append(parts, fmt.Sprintf("%s /%d", map[int]string{32: "IPv4", 128: "IPv6"}[bits], ones))
	}
	slices.Sort(parts)
	return strings.Join(parts, " and ")
}

// reaches sends a datagram from the pod to the node, for each family, and waits
// for its echo.
func (s side) reaches(b box, r *types100.Result) string {
	s.t.Helper()
	for _, ip := range r.IPs {
		to := nodeAddress6
		if a, _ := netip.AddrFromSlice(ip.Address.IP); a.Unmap().Is4() {
			to = nodeAddress4
		}
		if err := s.echo(b, to); err != nil {
			s.t.Logf("echo from %s: %v", to, err)
			return "does not reach the node"
		}
	}
	return "reaches the node"
}

func (s side) echo(b box, to string) error {
	var server net.PacketConn
	if err := s.host(func() (err error) { server, err = net.ListenPacket("udp", net.JoinHostPort(to, "7")); return err }); err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buf[:n], from)
		}
	}()
	return labtest.Inside(b.path, func() error {
		c, err := net.Dial("udp", net.JoinHostPort(to, "7"))
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		// ptp's IPv6 address is tentative for a second or two.
		for end := time.Now().Add(10 * time.Second); ; {
			if _, err = c.Write([]byte("echo")); err == nil {
				if err = c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
					return err
				}
				if _, err = c.Read(make([]byte, 100)); err == nil {
					return nil
				}
			}
			if time.Now().After(end) {
				return err
			}
		}
	})
}

// in runs f with a handle inside the container.
func (b box) in(f func() error) error { return labtest.Inside(b.path, f) }

// has reports whether the container has an interface.
func (b box) has(ifName string) bool {
	return b.in(func() error { _, err := netlink.LinkByName(ifName); return err }) == nil
}
