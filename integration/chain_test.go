package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"onlink/integration/lab"
)

// referencePlugins is where Debian puts the reference plugins.
const referencePlugins = "/usr/lib/cni"

// network is a configuration list on a node, called as a runtime does.
type network struct {
	node *lab.Node
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

// newNetwork is a list of these plugins: onlink's, and the reference plugins.
func newNetwork(t *testing.T, n *lab.Node, version string, plugins ...map[string]any) *network {
	t.Helper()
	text, err := json.Marshal(map[string]any{"cniVersion": version, "name": "onlink", "plugins": plugins})
	must(t, err)
	list, err := libcni.ConfListFromBytes(text)
	must(t, err)
	return networkOf(t, n, list, bin(), referencePlugins)
}

// networkOf calls the plugins of a list from these folders.
func networkOf(t *testing.T, n *lab.Node, list *libcni.NetworkConfigList, folders ...string) *network {
	t.Helper()
	return &network{n, libcni.NewCNIConfigWithCacheDir(folders, t.TempDir(), nil), list}
}

// alsoIn adds a folder of plugins.
func (w *network) alsoIn(dir string) { w.cni.Path = append(w.cni.Path, dir) }

// runtime is what a runtime says of a pod's eth0.
func (w *network) runtime(p *lab.Pod, capabilities map[string]any) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.ContainerID, NetNS: p.NS.Path(), IfName: "eth0", CapabilityArgs: capabilities}
}

// add attaches a pod and returns its addresses.
func (w *network) add(ctx context.Context, rt *libcni.RuntimeConf) (addrs []netip.Addr, err error) {
	result, err := w.result(ctx, rt)
	if err != nil {
		return nil, err
	}
	for _, ip := range result.IPs {
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		addrs = append(addrs, a.Unmap())
	}
	return addrs, nil
}

// result attaches a pod and returns what the last plugin answered.
func (w *network) result(ctx context.Context, rt *libcni.RuntimeConf) (result *types100.Result, err error) {
	err = w.node.NS.Do(func() error {
		got, err := w.cni.AddNetworkList(ctx, w.list, rt)
		if err != nil {
			return err
		}
		result, err = types100.NewResultFromResult(got)
		return err
	})
	return result, err
}

// check is CHECK.
func (w *network) check(ctx context.Context, rt *libcni.RuntimeConf) error {
	return w.node.NS.Do(func() error { return w.cni.CheckNetworkList(ctx, w.list, rt) })
}

// del is DEL.
func (w *network) del(ctx context.Context, rt *libcni.RuntimeConf) error {
	return w.node.NS.Do(func() error { return w.cni.DelNetworkList(ctx, w.list, rt) })
}

// status is STATUS.
func (w *network) status(ctx context.Context) error {
	return w.node.NS.Do(func() error { return w.cni.GetStatusNetworkList(ctx, w.list) })
}

// sink accepts connections in a namespace, reads size bytes of each and answers
// with one.
func sink(t *testing.T, ns *lab.NS, address string, size int64) {
	t.Helper()
	var lis net.Listener
	must(t, ns.Do(func() (err error) { lis, err = net.Listen("tcp", address); return err }))
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				if _, err := io.CopyN(io.Discard, c, size); err == nil {
					_, _ = c.Write([]byte{1})
				}
				_ = c.Close()
			}()
		}
	}()
}

// send sends size bytes to a sink and waits for its answer.
func send(ns *lab.NS, address string, size int64) (time.Duration, error) {
	var c net.Conn
	err := ns.Do(func() (err error) { c, err = net.DialTimeout("tcp", address, 20*time.Second); return err })
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	begin := time.Now()
	if err := c.SetDeadline(begin.Add(time.Minute)); err != nil {
		return 0, err
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		return 0, err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return time.Since(begin), err
}

// TestChain runs onlink before the reference plugins that clusters chain
// behind it, and sends real traffic: to a mapped port from outside and from
// the pod itself, and through a shaper.
func TestChain(t *testing.T) {
	if _, err := os.Stat(filepath.Join(referencePlugins, "portmap")); err != nil {
		t.Fatalf("%v; make deps installs it", err)
	}
	const size, rate = 2 << 20, 8_000_000 // bytes; bits a second
	spec := alone("chain")
	spec.DualStack, spec.Pool.CIDR6 = true, netip.MustParsePrefix("fd44::/48")
	ctx, l := build(t, spec)
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx))
	up(ctx, t, n)
	onlink := map[string]any{"type": "onlink-cni", "socket": n.CNISocket(), "mtu": 1400}
	portmap := map[string]any{"type": "portmap", "snat": true, "capabilities": map[string]bool{"portMappings": true}}
	bandwidth := map[string]any{"type": "bandwidth", "capabilities": map[string]bool{"bandwidth": true}}
	tuning := map[string]any{"type": "tuning", "sysctl": map[string]string{"net.core.somaxconn": "500"}}
	w := newNetwork(t, n, "1.0.0", onlink, portmap, bandwidth, tuning)
	p, err := n.NewPod("web")
	must(t, err)
	rt := w.runtime(p, map[string]any{
		"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
		"bandwidth":    map[string]any{"ingressRate": rate, "ingressBurst": rate / 8, "egressRate": rate, "egressBurst": rate / 8},
	})
	addrs, err := w.add(ctx, rt)
	must(t, err)
	// Debian's portmap looks for its IPv4 rules among those of IPv6, and fails.
	checked := *w
	checked.list = newNetwork(t, n, "1.0.0", onlink, bandwidth, tuning).list
	must(t, checked.check(ctx, rt))

	eth0, err := p.NS.Link.LinkByName("eth0")
	must(t, err)
	if mtu := eth0.Attrs().MTU; mtu != 1400 {
		t.Errorf("MTU %d, want 1400", mtu)
	}
	must(t, p.NS.Do(func() error {
		if have, err := os.ReadFile("/proc/sys/net/core/somaxconn"); err != nil || strings.TrimSpace(string(have)) != "500" {
			return fmt.Errorf("somaxconn is %s, want 500: %w", have, err)
		}
		return nil
	}))
	if len(addrs) != 2 {
		t.Fatalf("addresses %v, want one of each family", addrs)
	}
	sink(t, p.NS, ":80", size)
	mapped := netip.AddrPortFrom(n.Addr, 8080).String()
	took, err := send(l.Racks[0].ToRs[0].NS, mapped, size)
	must(t, err)
	if least := time.Second; took < least { // 2 s less the burst
		t.Errorf("%d bytes took %v through a shaper of %d bits a second, want more than %v", size, took, rate, least)
	}
	if _, err := send(p.NS, mapped, size); err != nil {
		t.Errorf("hairpin: %v", err)
	}
	// What the pod sends takes a turn through another device, and is its own
	// all the same.
	tor := l.Racks[0].ToRs[0]
	sink(t, tor.NS, ":81", size)
	if took, err := send(p.NS, netip.AddrPortFrom(tor.Addr, 81).String(), size); err != nil || took < time.Second {
		t.Errorf("%d bytes out took %v (%v) through the same shaper, want more than %v", size, took, err, time.Second)
	}
	if _, err := send(l.Racks[0].ToRs[0].NS, netip.AddrPortFrom(n.Addr6, 8080).String(), size); err != nil {
		t.Errorf("IPv6: %v", err)
	}

	must(t, w.del(ctx, rt))
	must(t, w.del(ctx, rt))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error {
		return errors.Join(leftovers(ctx, n), noRules(n, addrs[0]))
	}))
	must(t, p.Delete(ctx))
}

// TestChainBehind runs onlink behind a plugin that has made an interface of its
// own, and before firewall, on a node that forwards nothing unless a plugin
// says so.
func TestChainBehind(t *testing.T) {
	ctx, l := build(t, alone("behind"))
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	must(t, l.StartToRs(ctx))
	up(ctx, t, n)
	const version = "0.4.0" // the oldest that has CHECK
	onlink := map[string]any{"type": "onlink-cni", "socket": n.CNISocket()}
	loopback, firewall := map[string]any{"type": "loopback"}, map[string]any{"type": "firewall", "backend": "iptables"}
	w := newNetwork(t, n, version, loopback, onlink, firewall,
		map[string]any{"type": "portmap", "snat": true, "capabilities": map[string]bool{"portMappings": true}})
	p, err := n.NewPod("web")
	must(t, err)
	rt := w.runtime(p, map[string]any{"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}})
	result, err := w.result(ctx, rt)
	must(t, err)
	addr := onlyOf(t, result, p.NS.Path())
	checked := *w // see TestChain for why without portmap
	checked.list = newNetwork(t, n, version, loopback, onlink, firewall).list
	must(t, checked.check(ctx, rt))

	const size = 1 << 16
	sink(t, p.NS, ":80", size)
	sink(t, tor.NS, ":81", size)
	mapped, outside := netip.AddrPortFrom(n.Addr, 8080).String(), netip.AddrPortFrom(tor.Addr, 81).String()
	if _, err := send(tor.NS, mapped, size); err != nil {
		t.Errorf("mapped port: %v", err)
	}
	must(t, n.NS.Do(func() error { return exec.Command("iptables", "-P", "FORWARD", "DROP").Run() }))
	if _, err := send(p.NS, outside, size); err != nil {
		t.Errorf("out of the pod, which the plugin firewall allows: %v", err)
	}
	bare, err := n.NewPod("bare")
	must(t, err)
	alone := newNetwork(t, n, version, onlink)
	bareRT := alone.runtime(bare, nil)
	_, err = alone.add(ctx, bareRT)
	must(t, err)
	if err := bare.NS.Do(func() error { return dialOnce(outside) }); err == nil {
		t.Error("a pod without the plugin firewall sends out of a node that forwards nothing")
	}

	must(t, alone.del(ctx, bareRT))
	must(t, w.del(ctx, rt))
	must(t, w.del(ctx, rt))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error {
		return errors.Join(leftovers(ctx, n), noRules(n, addr))
	}))
	must(t, errors.Join(p.Delete(ctx), bare.Delete(ctx)))
}

// TestChainBetween runs onlink in the middle: behind a reference plugin that has
// made an interface with a default route of its own, and tuning, and before
// portmap, bandwidth and firewall.
func TestChainBetween(t *testing.T) {
	ctx, l := build(t, alone("between"))
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	must(t, l.StartToRs(ctx))
	up(ctx, t, n)
	for _, version := range []string{"0.4.0", "1.0.0"} {
		t.Run(version, func(t *testing.T) { chainBetween(ctx, t, n, tor, version) })
	}
}

func chainBetween(ctx context.Context, t *testing.T, n *lab.Node, tor *lab.ToR, version string) {
	ptp := map[string]any{"type": "ptp-net0", "ipMasq": true, "ipam": map[string]any{
		"type": "host-local", "subnet": "10.99.0.0/24", "dataDir": t.TempDir(), "routes": []map[string]string{{"dst": "0.0.0.0/0"}},
	}}
	tuning := map[string]any{"type": "tuning", "sysctl": map[string]string{"net.core.somaxconn": "500"}}
	onlink := map[string]any{"type": "onlink-cni", "socket": n.CNISocket()}
	portmap := map[string]any{"type": "portmap", "snat": true, "capabilities": map[string]bool{"portMappings": true}}
	bandwidth := map[string]any{"type": "bandwidth", "capabilities": map[string]bool{"bandwidth": true}}
	firewall := map[string]any{"type": "firewall", "backend": "iptables"}
	w := newNetwork(t, n, version, ptp, tuning, onlink, portmap, bandwidth, firewall)
	// ptp looks for every address of the result on its own interface; see
	// TestChain for why without portmap.
	checked := *w
	checked.list = newNetwork(t, n, version, tuning, onlink, bandwidth, firewall).list
	w.alsoIn(otherName(t, "ptp", "net0"))
	p, err := n.NewPod("between-" + version)
	must(t, err)
	const rate = 8_000_000
	rt := w.runtime(p, map[string]any{
		"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
		"bandwidth":    map[string]any{"ingressRate": rate, "ingressBurst": rate / 8, "egressRate": rate, "egressBurst": rate / 8},
	})
	result, err := w.result(ctx, rt)
	must(t, err)
	addr := appended(t, result, p.NS.Path())
	must(t, checked.check(ctx, rt))

	// In and out through onlink's interface, and in through the other: portmap
	// maps to the first address of the result, which is ptp's.
	const size = 1 << 16
	sink(t, p.NS, ":80", size)
	sink(t, tor.NS, ":81", size)
	for what, address := range map[string]netip.AddrPort{
		"to the address": netip.AddrPortFrom(addr, 80), "to the mapped port": netip.AddrPortFrom(n.Addr, 8080),
	} {
		if err := lab.Eventually(ctx, 20*time.Second, what, func() error { _, err := send(tor.NS, address.String(), size); return err }); err != nil {
			t.Error(err)
		}
	}
	outside := netip.AddrPortFrom(tor.Addr, 81)
	if _, err := send(p.NS, outside.String(), size); err != nil {
		t.Errorf("out through the first interface: %v", err)
	}
	must(t, p.NS.Do(func() error {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: addr.AsSlice()}, Timeout: 20 * time.Second}
		c, err := from.DialContext(ctx, "tcp", outside.String())
		if err != nil {
			return fmt.Errorf("out from onlink's address: %w", err)
		}
		return c.Close()
	}))

	must(t, w.del(ctx, rt))
	must(t, w.del(ctx, rt))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error {
		return errors.Join(leftovers(ctx, n), noRules(n, addr))
	}))
	for _, name := range []string{"eth0", "net0"} {
		if err := lab.Eventually(ctx, 10*time.Second, name+" is gone", func() error {
			if _, err := p.NS.Link.LinkByName(name); err == nil {
				return errRules
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	must(t, p.Delete(ctx))
}

// otherName returns a folder with a reference plugin that makes its interface
// under another name than the runtime says: all plugins of a list are told the
// same.
func otherName(t *testing.T, plugin, ifName string) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nCNI_IFNAME=" + ifName + " exec " + filepath.Join(referencePlugins, plugin) + "\n"
	must(t, os.WriteFile(filepath.Join(dir, plugin+"-"+ifName), []byte(script), 0o755))
	return dir
}

// appended returns onlink's address of a result that begins with ptp's
// interfaces: all of them are still there, and each address is on its own.
func appended(t *testing.T, r *types100.Result, sandbox string) netip.Addr {
	t.Helper()
	var names []string
	for _, i := range r.Interfaces {
		if i.Sandbox != "" && i.Sandbox != sandbox {
			t.Errorf("interface %+v is in another namespace than %s", i, sandbox)
		}
		names = append(names, i.Name)
	}
	if len(names) < 4 || names[1] != "net0" || names[3] != "eth0" || !strings.HasPrefix(names[2], "onl") {
		t.Fatalf("interfaces %v, want ptp's two, then onlink's two", names)
	}
	if len(r.IPs) != 2 || *r.IPs[0].Interface != 1 || *r.IPs[1].Interface != 3 {
		t.Fatalf("addresses %v, want ptp's on the second interface and onlink's on the fourth", r.IPs)
	}
	a, _ := netip.AddrFromSlice(r.IPs[1].Address.IP)
	return a.Unmap()
}

// onlyOf returns onlink's address of a result that begins with another
// plugin's interface: each address must point at its own.
func onlyOf(t *testing.T, r *types100.Result, sandbox string) netip.Addr {
	t.Helper()
	if len(r.Interfaces) != 3 || r.Interfaces[0].Name != "lo" {
		t.Fatalf("interfaces %v, want lo, the host's end and eth0", r.Interfaces)
	}
	var ours netip.Addr
	for _, ip := range r.IPs {
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		want := map[bool]string{true: "lo", false: "eth0"}[a.IsLoopback()]
		if got := r.Interfaces[*ip.Interface]; got.Name != want || got.Sandbox != sandbox {
			t.Errorf("%v is on %+v, want %s", a, got, want)
		}
		if !a.IsLoopback() {
			ours = a.Unmap()
		}
	}
	if !ours.IsValid() {
		t.Fatalf("addresses %v, want one of onlink's", r.IPs)
	}
	return ours
}

// dialOnce connects within a second or fails.
func dialOnce(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// noRules wants no rule about an address to be left on the node.
func noRules(n *lab.Node, addr netip.Addr) error {
	return n.NS.Do(func() error {
		out, err := exec.Command("iptables-save").Output()
		if err != nil {
			return fmt.Errorf("iptables-save: %w", err)
		}
		if strings.Contains(string(out), addr.String()) {
			return fmt.Errorf("%w: %s", errRules, out)
		}
		return nil
	})
}

var errRules = errors.New("rules are left")
