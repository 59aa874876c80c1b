package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestChain runs onlink before the reference plugins that clusters chain
// behind it, and sends real traffic: to a mapped port from outside and from
// the pod itself, and through a shaper.
func TestChain(t *testing.T) {
	if _, err := os.Stat(filepath.Join(labtest.ReferencePlugins, "portmap")); err != nil {
		t.Fatalf("%v; make deps installs it", err)
	}
	const size, rate = 2 << 20, 8_000_000 // bytes; bits a second
	spec := labtest.Alone("chain")
	spec.DualStack, spec.Pool.CIDR6 = true, netip.MustParsePrefix("fd44::/48")
	ctx, l := labtest.Build(t, spec)
	n := l.Node("r1n1")
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)
	onlink := labtest.Onlink(n)
	onlink["mtu"] = 1400
	portmap := labtest.PortMap()
	bandwidth := labtest.Bandwidth()
	tuning := labtest.Tuning("500")
	w := labtest.NewNetwork(t, n, "1.0.0", onlink, portmap, bandwidth, tuning)
	p, err := n.NewPod("web")
	must(t, err)
	rt := w.Runtime(p, labtest.Shape(labtest.MapPort(map[string]any{}, 8080, 80), rate))
	addrs, err := w.Add(ctx, rt)
	must(t, err)
	// Debian's portmap looks for its IPv4 rules among those of IPv6, and fails.
	checked := *w
	checked.List = labtest.NewNetwork(t, n, "1.0.0", onlink, bandwidth, tuning).List
	must(t, checked.Check(ctx, rt))

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
	labtest.Sink(t, p.NS, ":80", size)
	mapped := netip.AddrPortFrom(n.Addr, 8080).String()
	took, err := labtest.Send(l.Racks[0].ToRs[0].NS, mapped, size)
	must(t, err)
	if least := time.Second; took < least { // 2 s less the burst
		t.Errorf("%d bytes took %v through a shaper of %d bits a second, want more than %v", size, took, rate, least)
	}
	if _, err := labtest.Send(p.NS, mapped, size); err != nil {
		t.Errorf("hairpin: %v", err)
	}
	// What the pod sends takes a turn through another device, and is its own
	// all the same.
	tor := l.Racks[0].ToRs[0]
	labtest.Sink(t, tor.NS, ":81", size)
	if took, err := labtest.Send(p.NS, netip.AddrPortFrom(tor.Addr, 81).String(), size); err != nil || took < time.Second {
		t.Errorf("%d bytes out took %v (%v) through the same shaper, want more than %v", size, took, err, time.Second)
	}
	if _, err := labtest.Send(l.Racks[0].ToRs[0].NS, netip.AddrPortFrom(n.Addr6, 8080).String(), size); err != nil {
		t.Errorf("IPv6: %v", err)
	}

	must(t, w.Del(ctx, rt))
	must(t, w.Del(ctx, rt))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error {
		return errors.Join(labtest.Leftovers(ctx, n), noRules(n, addrs[0]))
	}))
	must(t, p.Delete(ctx))
}

// TestChainBehind runs onlink behind a plugin that has made an interface of its
// own, and before firewall, on a node that forwards nothing unless a plugin
// says so.
func TestChainBehind(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("behind"))
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)
	const version = "0.4.0" // the oldest that has CHECK
	onlink := labtest.Onlink(n)
	loopback, firewall := map[string]any{"type": "loopback"}, map[string]any{"type": "firewall", "backend": "iptables"}
	w := labtest.NewNetwork(t, n, version, loopback, onlink, firewall,
		labtest.PortMap())
	p, err := n.NewPod("web")
	must(t, err)
	rt := w.Runtime(p, labtest.MapPort(map[string]any{}, 8080, 80))
	result, err := w.Result(ctx, rt)
	must(t, err)
	addr := onlyOf(t, result, p.NS.Path())
	checked := *w // see TestChain for why without portmap
	checked.List = labtest.NewNetwork(t, n, version, loopback, onlink, firewall).List
	must(t, checked.Check(ctx, rt))

	const size = 1 << 16
	labtest.Sink(t, p.NS, ":80", size)
	labtest.Sink(t, tor.NS, ":81", size)
	mapped, outside := netip.AddrPortFrom(n.Addr, 8080).String(), netip.AddrPortFrom(tor.Addr, 81).String()
	if _, err := labtest.Send(tor.NS, mapped, size); err != nil {
		t.Errorf("mapped port: %v", err)
	}
	must(t, n.NS.Do(func() error { return exec.Command("iptables", "-P", "FORWARD", "DROP").Run() }))
	if _, err := labtest.Send(p.NS, outside, size); err != nil {
		t.Errorf("out of the pod, which the plugin firewall allows: %v", err)
	}
	bare, err := n.NewPod("bare")
	must(t, err)
	alone := labtest.NewNetwork(t, n, version, onlink)
	bareRT := alone.Runtime(bare, nil)
	_, err = alone.Add(ctx, bareRT)
	must(t, err)
	if err := bare.NS.Do(func() error { return dialOnce(outside) }); err == nil {
		t.Error("a pod without the plugin firewall sends out of a node that forwards nothing")
	}

	must(t, alone.Del(ctx, bareRT))
	must(t, w.Del(ctx, rt))
	must(t, w.Del(ctx, rt))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error {
		return errors.Join(labtest.Leftovers(ctx, n), noRules(n, addr))
	}))
	must(t, errors.Join(p.Delete(ctx), bare.Delete(ctx)))
}

// TestChainBetween runs onlink in the middle: behind a reference plugin that has
// made an interface with a default route of its own, and tuning, and before
// portmap, bandwidth and firewall.
func TestChainBetween(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("between"))
	n, tor := l.Node("r1n1"), l.Racks[0].ToRs[0]
	must(t, l.StartToRs(ctx))
	labtest.StartNode(ctx, t, n)
	for _, version := range []string{"0.4.0", "1.0.0"} {
		t.Run(version, func(t *testing.T) { chainBetween(ctx, t, n, tor, version) })
	}
}

func chainBetween(ctx context.Context, t *testing.T, n *lab.Node, tor *lab.ToR, version string) {
	ptp := map[string]any{"type": "ptp-net0", "ipMasq": true, "ipam": map[string]any{
		"type": "host-local", "subnet": "10.99.0.0/24", "dataDir": t.TempDir(), "routes": []map[string]string{{"dst": "0.0.0.0/0"}},
	}}
	tuning := labtest.Tuning("500")
	onlink := labtest.Onlink(n)
	portmap := labtest.PortMap()
	bandwidth := labtest.Bandwidth()
	firewall := map[string]any{"type": "firewall", "backend": "iptables"}
	w := labtest.NewNetwork(t, n, version, ptp, tuning, onlink, portmap, bandwidth, firewall)
	// ptp looks for every address of the result on its own interface; see
	// TestChain for why without portmap.
	checked := *w
	checked.List = labtest.NewNetwork(t, n, version, tuning, onlink, bandwidth, firewall).List
	w.AlsoIn(otherName(t, "ptp", "net0"))
	p, err := n.NewPod("between-" + version)
	must(t, err)
	const rate = 8_000_000
	rt := w.Runtime(p, labtest.Shape(labtest.MapPort(map[string]any{}, 8080, 80), rate))
	result, err := w.Result(ctx, rt)
	must(t, err)
	addr := appended(t, result, p.NS.Path())
	must(t, checked.Check(ctx, rt))

	// In and out through onlink's interface, and in through the other: portmap
	// maps to the first address of the result, which is ptp's.
	const size = 1 << 16
	labtest.Sink(t, p.NS, ":80", size)
	labtest.Sink(t, tor.NS, ":81", size)
	for what, address := range map[string]netip.AddrPort{
		"to the address": netip.AddrPortFrom(addr, 80), "to the mapped port": netip.AddrPortFrom(n.Addr, 8080),
	} {
		if err := lab.Eventually(ctx, 20*time.Second, what, func() error { _, err := labtest.Send(tor.NS, address.String(), size); return err }); err != nil {
			t.Error(err)
		}
	}
	outside := netip.AddrPortFrom(tor.Addr, 81)
	if _, err := labtest.Send(p.NS, outside.String(), size); err != nil {
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

	must(t, w.Del(ctx, rt))
	must(t, w.Del(ctx, rt))
	must(t, lab.Eventually(ctx, 10*time.Second, "nothing is left", func() error {
		return errors.Join(labtest.Leftovers(ctx, n), noRules(n, addr))
	}))
	for _, name := range []string{"eth0", "net0"} {
		if err := lab.Eventually(ctx, 10*time.Second, name+" is gone", func() error {
			if _, err := p.NS.Link.LinkByName(name); err == nil {
				return labtest.ErrRules
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
	script := "#!/bin/sh\nCNI_IFNAME=" + ifName + " exec " + filepath.Join(labtest.ReferencePlugins, plugin) + "\n"
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
			return fmt.Errorf("%w: %s", labtest.ErrRules, out)
		}
		return nil
	})
}
