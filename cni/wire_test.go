package cni

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// link looks a link up; it must exist.
func link(name string) netlink.Link {
	l, err := netlink.LinkByName(name)
	if err != nil {
		panic(fmt.Sprintf("look up %s: %v", name, err))
	}
	return l
}

// sysctlPath is the file of a device's setting.
func sysctlPath(family, device, key string) string {
	return "/proc/sys/net/" + family + "/conf/" + device + "/" + key
}

var testDevice = hostDevice(testID, "eth0")

func dst(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return n
}

// TestCheck breaks an attachment in every way that CHECK promises to find.
func TestCheck(t *testing.T) {
	tests := []struct {
		name  string
		host  func() error // run in the agent's namespace
		pod   func() error // run in the pod's
		want  string
		other string // 0.4.0 and on answer alike; empty: 1.1.0
		mtu   int    // 0: the agent's choice
	}{
		{name: "whole", want: ""},
		{name: "whole, oldest version with CHECK", want: "", other: "0.4.0"},
		{name: "pod address", want: "pod interface eth0: address 10.65.0.1/32 missing", pod: func() error {
			return netlink.AddrDel(link("eth0"), &netlink.Addr{IPNet: dst("10.65.0.1/32")})
		}},
		{name: "pod IPv6 address", want: "pod interface eth0: address fd00:65::1/128 missing", pod: func() error {
			return netlink.AddrDel(link("eth0"), &netlink.Addr{IPNet: dst("fd00:65::1/128")})
		}},
		{name: "default route", want: "default route via 169.254.1.1 missing", pod: func() error {
			return netlink.RouteDel(&netlink.Route{LinkIndex: link("eth0").Attrs().Index, Dst: dst("0.0.0.0/0")})
		}},
		{name: "IPv6 default route", want: "default route via fe80::ecee:eeff:feee:eeee missing", pod: func() error {
			return netlink.RouteDel(&netlink.Route{LinkIndex: link("eth0").Attrs().Index, Dst: dst("::/0")})
		}},
		{name: "gateway route", want: "route to 169.254.1.1 missing", pod: func() error {
			return netlink.RouteDel(&netlink.Route{LinkIndex: link("eth0").Attrs().Index, Dst: dst("169.254.1.1/32"), Scope: netlink.SCOPE_LINK})
		}},
		{name: "gateway neighbour", want: "neighbour 169.254.1.1", pod: func() error {
			return netlink.NeighDel(&netlink.Neigh{LinkIndex: link("eth0").Attrs().Index, IP: net.IPv4(169, 254, 1, 1)})
		}},
		{name: "forged gateway neighbour", want: "neighbour 169.254.1.1 is 02:00:00:00:00:01", pod: func() error {
			return netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link("eth0").Attrs().Index, IP: net.IPv4(169, 254, 1, 1),
				State: netlink.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1},
			})
		}},
		{name: "pod MAC", want: "pod interface eth0: MAC address is 02:00:00:00:00:01", pod: func() error {
			return netlink.LinkSetHardwareAddr(link("eth0"), net.HardwareAddr{2, 0, 0, 0, 0, 1})
		}},
		{name: "pod down", want: "pod interface eth0: is down", pod: func() error { return netlink.LinkSetDown(link("eth0")) }},
		{name: "router advertisements", want: "sysctl ipv6.accept_ra is 2, want 0", pod: func() error {
			return os.WriteFile(sysctlPath("ipv6", "eth0", "accept_ra"), []byte("2"), 0)
		}},
		{name: "interface", want: "pod interface eth0: missing", pod: func() error { return netlink.LinkDel(link("eth0")) }},
		{name: "host interface with it", want: "host interface " + testDevice + ": missing", pod: func() error { return netlink.LinkDel(link("eth0")) }},
		{name: "host down", want: "host interface " + testDevice + ": is down", host: func() error { return netlink.LinkSetDown(link(testDevice)) }},
		{name: "host route", want: "host route to 10.65.0.1 missing", host: func() error {
			return netlink.RouteDel(&netlink.Route{LinkIndex: link(testDevice).Attrs().Index, Dst: dst("10.65.0.1/32"), Protocol: ours.Protocol, Scope: netlink.SCOPE_LINK})
		}},
		{name: "host route of another", want: "host route to 10.65.0.1 is another", host: func() error {
			return netlink.RouteReplace(&netlink.Route{LinkIndex: link("lo").Attrs().Index, Dst: dst("10.65.0.1/32"), Protocol: unix.RTPROT_STATIC, Scope: netlink.SCOPE_LINK})
		}},
		{name: "host neighbour", want: "neighbour 10.65.0.1", host: func() error {
			return netlink.NeighDel(&netlink.Neigh{LinkIndex: link(testDevice).Attrs().Index, IP: net.IPv4(10, 65, 0, 1)})
		}},
		{name: "alias", want: "alias is \"mine\"", host: func() error { return netlink.LinkSetAlias(link(testDevice), "mine") }},
		{name: "forwarding", want: "sysctl ipv4.forwarding is 0", host: func() error {
			return os.WriteFile(sysctlPath("ipv4", testDevice, "forwarding"), []byte("0"), 0)
		}},
		{name: "pod IPv6 neighbour", want: "neighbour fe80::ecee:eeff:feee:eeee missing", pod: func() error {
			return netlink.NeighDel(&netlink.Neigh{LinkIndex: link("eth0").Attrs().Index, IP: net.ParseIP("fe80::ecee:eeff:feee:eeee")})
		}},
		{name: "IPv6 off in the pod", want: "sysctl ipv6.disable_ipv6 is 1, want 0", pod: func() error {
			return os.WriteFile(sysctlPath("ipv6", "eth0", "disable_ipv6"), []byte("1"), 0)
		}},
		{name: "pod MTU", want: "pod interface eth0: MTU is 1300, want 1400", mtu: 1400, pod: func() error {
			return netlink.LinkSetMTU(link("eth0"), 1300)
		}},
		{name: "pod interface of another kind", want: "pod interface eth0: is of kind bridge, want veth", pod: func() error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "eth0"
			return errors.Join(netlink.LinkSetDown(link("eth0")), netlink.LinkSetName(link("eth0"), "gone0"), netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
		}},
		{name: "host MTU", want: "host interface " + testDevice + ": MTU is 1300, want 1400", mtu: 1400, host: func() error {
			return netlink.LinkSetMTU(link(testDevice), 1300)
		}},
		{name: "host MAC", want: "host interface " + testDevice + ": MAC address is 02:00:00:00:00:01", host: func() error {
			return netlink.LinkSetHardwareAddr(link(testDevice), net.HardwareAddr{2, 0, 0, 0, 0, 1})
		}},
		{name: "host IPv6 route", want: "host route to fd00:65::1 missing", host: func() error {
			return netlink.RouteDel(&netlink.Route{LinkIndex: link(testDevice).Attrs().Index, Dst: dst("fd00:65::1/128"), Protocol: ours.Protocol})
		}},
		{name: "host IPv6 neighbour", want: "neighbour fd00:65::1 missing", host: func() error {
			return netlink.NeighDel(&netlink.Neigh{LinkIndex: link(testDevice).Attrs().Index, IP: net.ParseIP("fd00:65::1")})
		}},
		{name: "forged host neighbour", want: "neighbour 10.65.0.1 is 02:00:00:00:00:01", host: func() error {
			return netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link(testDevice).Attrs().Index, IP: net.IPv4(10, 65, 0, 1),
				State: netlink.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1},
			})
		}},
		{name: "neighbour that may age", want: "neighbour 10.65.0.1", host: func() error {
			return netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link(testDevice).Attrs().Index, IP: net.IPv4(10, 65, 0, 1),
				State: netlink.NUD_REACHABLE, HardwareAddr: podMAC(testID, "eth0"),
			})
		}},
		{name: "IPv6 forwarding", want: "sysctl ipv6.forwarding is 0", host: func() error {
			return os.WriteFile(sysctlPath("ipv6", testDevice, "forwarding"), []byte("0"), 0)
		}},
		{name: "spoofing allowed", want: "sysctl ipv4.rp_filter is 0", host: func() error {
			return os.WriteFile(sysctlPath("ipv4", testDevice, "rp_filter"), []byte("0"), 0)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			n.ipam.set(func() { n.ipam.ipv6 = true })
			c := add(pod)
			c.version = tt.other
			if tt.mtu != 0 {
				c.conf = map[string]any{"mtu": tt.mtu}
			}
			check := c.as("CHECK")
			check.conf = withPrev(t, c.conf, n.ok(c))
			if tt.pod != nil {
				pod.do(t, tt.pod)
			}
			if tt.host != nil {
				n.space.do(t, tt.host)
			}
			if tt.want == "" {
				n.ok(check)
				return
			}
			if o := n.fails(check, 100); !strings.Contains(o.Details, tt.want) {
				t.Errorf("CHECK says %q, want %q", o.Details, tt.want)
			}
		})
	}
}

// TestCheckLease runs CHECK where address and prevResult do not agree.
func TestCheckLease(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	c := add(pod)
	n.fails(c.as("CHECK"), 100) // never added
	out := n.ok(c)
	check := c.as("CHECK")
	check.conf = withPrev(t, nil, strings.ReplaceAll(out, "10.65.0.1", "10.65.0.2"))
	if o := n.fails(check, 100); !strings.Contains(o.Details, "prevResult") {
		t.Errorf("CHECK says %q", o.Details)
	}
}

// veth makes a veth from the node to the pod, whose end is eth0.
func veth(t *testing.T, n *node, pod *space, name string) {
	n.space.do(t, func() error {
		ns, err := os.Open(pod.path)
		if err != nil {
			return err
		}
		defer func() { _ = ns.Close() }()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns.Fd()))})
	})
}

// TestLeftover runs ADD over the remains of an earlier one.
func TestLeftover(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, n *node, pod *space)
		code uint // 0: ADD succeeds
		want string
	}{
		{"bare veth", func(t *testing.T, n *node, pod *space) {
			veth(t, n, pod, testDevice)
			n.setGroup(testDevice, ours.PodServing)
		}, 0, ""},
		{"somebody's veth of the host device's name", func(t *testing.T, n *node, pod *space) {
			veth(t, n, pod, testDevice)
		}, 999, "not onlink's"},
		{"half an attachment", func(t *testing.T, n *node, pod *space) {
			n.ok(add(pod))
			pod.do(t, func() error { return netlink.AddrDel(link("eth0"), &netlink.Addr{IPNet: dst("10.65.0.1/32")}) })
		}, 0, ""},
		{"whole attachment, agent restarted", func(_ *testing.T, n *node, pod *space) {
			n.ok(add(pod))
			n.stop()
			n.start()
		}, 0, ""},
		{"the learn loop's route", func(t *testing.T, n *node, _ *space) {
			n.space.do(t, func() error {
				return netlink.RouteAdd(&netlink.Route{LinkIndex: link("lo").Attrs().Index, Dst: dst("10.65.0.1/32"), Protocol: ours.Protocol, Scope: netlink.SCOPE_LINK})
			})
		}, 0, ""},
		{"somebody's route", func(t *testing.T, n *node, _ *space) {
			n.space.do(t, func() error {
				return netlink.RouteAdd(&netlink.Route{LinkIndex: link("lo").Attrs().Index, Dst: dst("10.65.0.1/32"), Protocol: unix.RTPROT_STATIC, Scope: netlink.SCOPE_LINK})
			})
		}, 999, "protocol static"},
		{"pod interface of another plugin", func(t *testing.T, n *node, pod *space) { veth(t, n, pod, "other0") }, 4, "CNI_IFNAME"},
		{"host device name of another", func(t *testing.T, n *node, _ *space) {
			n.space.do(t, func() error {
				attrs := netlink.NewLinkAttrs()
				attrs.Name = testDevice
				return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
			})
		}, 999, "not onlink's"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			tt.make(t, n, pod)
			if tt.code != 0 {
				if o := n.fails(add(pod), tt.code); !strings.Contains(o.Details, tt.want) {
					t.Errorf("ADD says %q, want %q", o.Details, tt.want)
				}
				if a := n.ipam.Attachments(); len(a) != 0 || n.routes.len() != 0 {
					t.Errorf("leases %v and routes %v left", a, n.routes.pods)
				}
				return
			}
			check := add(pod).as("CHECK")
			check.conf = withPrev(t, nil, n.ok(add(pod)))
			n.ok(check)
			n.ok(add(pod).as("DEL"))
			n.clean()
		})
	}
}

// TestOtherNamespace refuses a second ADD of a running attachment for another
// namespace and leaves the first alone.
func TestOtherNamespace(t *testing.T) {
	n, pod, other := newNode(t), newSpace(t), newSpace(t)
	check := add(pod).as("CHECK")
	check.conf = withPrev(t, nil, n.ok(add(pod)))
	if o := n.fails(add(other), 999); !strings.Contains(o.Details, "another network namespace") {
		t.Errorf("ADD says %q", o.Details)
	}
	n.ok(check)
}

// TestDisabledIPv6 gives an IPv6 address to a pod whose runtime disabled IPv6.
func TestDisabledIPv6(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ipam.set(func() { n.ipam.ipv6 = true })
	pod.do(t, func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0) })
	pod.do(t, func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) })
	check := add(pod).as("CHECK")
	check.conf = withPrev(t, nil, n.ok(add(pod)))
	n.ok(check)
}

// TestAddUndo makes ADD fail after the veth exists: nothing must be left.
func TestAddUndo(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	c := add(pod)
	// Two addresses that are one: the kernel refuses the second.
	c.conf = map[string]any{"runtimeConfig": map[string]any{"ips": []string{"10.65.9.1", "10.65.9.1"}}}
	if o := n.fails(c, 999); !strings.Contains(o.Details, "add address 10.65.9.1") {
		t.Errorf("ADD says %q", o.Details)
	}
	n.clean()
	pod.do(t, func() error {
		if l, err := netlink.LinkByName("eth0"); err == nil {
			t.Errorf("%v left in the pod", l)
		}
		return nil
	})
}

// brokenSenders is [Senders] that fails.
type brokenSenders struct {
	mu            sync.Mutex
	allow, forget error // guarded by mu
}

func (b *brokenSenders) set(allow, forget error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allow, b.forget = allow, forget
}

func (b *brokenSenders) Allow(string, net.HardwareAddr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allow
}

func (b *brokenSenders) Forget(...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.forget
}

func (b *brokenSenders) Replace(map[string]net.HardwareAddr) error { return nil }

// TestAddUndoSteps makes each step of ADD fail once the one before has
// succeeded, and in the end the undoing, too.
func TestAddUndoSteps(t *testing.T) {
	errNFT := errors.New("no room in the set")
	foreign := func() *netlink.Route {
		return &netlink.Route{LinkIndex: link("lo").Attrs().Index, Dst: dst("10.65.0.1/32"), Protocol: unix.RTPROT_STATIC, Scope: netlink.SCOPE_LINK}
	}
	tests := []struct {
		name    string
		conf    map[string]any
		prepare func(t *testing.T, n *node, broken *brokenSenders)
		mend    func(n *node)
		code    uint
		want    string
	}{
		{
			name: "host's end", code: 999, want: "protocol static",
			prepare: func(t *testing.T, n *node, _ *brokenSenders) {
				t.Helper()
				n.space.do(t, func() error { return netlink.RouteAdd(foreign()) })
			},
			mend: func(n *node) {
				n.space.do(n.t, func() error { return netlink.RouteDel(foreign()) })
			},
		},
		{
			name: "sysctl", code: 7, want: "the kernel refuses", conf: map[string]any{"sysctls": map[string]string{"net.ipv4.tcp_rmem": "many"}},
		},
		{
			name: "sender, beside the wiring", code: 999, want: errNFT.Error(),
			prepare: func(_ *testing.T, _ *node, b *brokenSenders) { b.set(errNFT, nil) },
		},
		{
			name: "sender, after the wiring", code: 999, want: errNFT.Error(),
			conf:    map[string]any{"runtimeConfig": map[string]any{"mac": "02:00:00:00:00:07"}},
			prepare: func(_ *testing.T, _ *node, b *brokenSenders) { b.set(errNFT, nil) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod, broken := undoNode(t)
			if tt.prepare != nil {
				tt.prepare(t, n, broken)
			}
			c := add(pod)
			c.conf = tt.conf
			if o := n.fails(c, tt.code); !strings.Contains(o.Details, tt.want) {
				t.Errorf("ADD says %q, want %q", o.Details, tt.want)
			}
			n.clean()
			pod.do(t, func() error {
				if l, err := netlink.LinkByName("eth0"); err == nil {
					t.Errorf("%v left in the pod", l)
				}
				return nil
			})
			broken.set(nil, nil)
			if tt.mend != nil {
				tt.mend(n)
			}
			n.ok(add(pod)) // as if nothing had been
		})
	}
	t.Run("undoing", func(t *testing.T) {
		n, pod, broken := undoNode(t)
		errForget := errors.New("the set is locked")
		broken.set(errNFT, errForget)
		if o := n.fails(add(pod), 999); !strings.Contains(o.Details, errNFT.Error()) || !strings.Contains(o.Details, errForget.Error()) {
			t.Errorf("ADD says %q, want both failures", o.Details)
		}
		if len(n.ipam.Attachments()) != 1 {
			t.Error("the address is free while the kernel may still know it")
		}
		broken.set(nil, nil)
		n.ok(add(pod).as("DEL"))
		n.clean()
	})
}

// undoNode is a node whose senders can fail, and whose pods may have a sysctl.
func undoNode(t *testing.T) (*node, *space, *brokenSenders) {
	t.Helper()
	n, broken := newNode(t), &brokenSenders{}
	n.senders, n.sysctls = broken, []string{"net.ipv4.tcp_rmem"}
	n.stop()
	n.start()
	return n, newSpace(t), broken
}

// TestGC frees the attachments that the runtime does not list and whose namespace
// is gone.
func TestGC(t *testing.T) {
	n := newNode(t)
	pods := map[string]*space{}
	for _, id := range []string{"listed", "listed-gone", "alive", "gone"} {
		pods[id] = newSpace(t)
		n.ok(call{verb: "ADD", id: id, ifname: "eth0", netns: pods[id].path})
	}
	// A veth without a lease: the store was lost.
	pods["lost"] = newSpace(t)
	n.ok(call{verb: "ADD", id: "lost", ifname: "eth0", netns: pods["lost"].path})
	n.ipam.set(func() { delete(n.ipam.leases, "lost/eth0"); delete(n.ipam.owners, "lost/eth0") })
	pods["gone"].close()
	pods["listed-gone"].close()

	n.ok(call{verb: "GC", conf: map[string]any{"cni.dev/valid-attachments": []any{
		map[string]any{"containerID": "listed", "ifname": "eth0"},
		map[string]any{"containerID": "listed-gone", "ifname": "eth0"},
	}}})
	for id, want := range map[string]bool{"listed": true, "listed-gone": true, "alive": true, "gone": false, "lost": false} {
		if _, held := n.ipam.Lookup(Attachment{ContainerID: id, IfName: "eth0"}); held != want {
			t.Errorf("%s holds a lease: %v, want %v", id, held, want)
		}
	}
	eventually(t, func() error { // the kernel takes a moment to end a namespace's interfaces
		if d := n.devices(); len(d) != 2 {
			return fmt.Errorf("devices %v, want those of listed and alive", d)
		}
		return nil
	})
	n.fails(call{verb: "GC", conf: map[string]any{"cni.dev/valid-attachments": "all"}}, 7)
	n.ok(call{verb: "GC", conf: map[string]any{"cni.dev/valid-attachments": nil}}) // libcni's empty list
	if _, held := n.ipam.Lookup(Attachment{ContainerID: "listed-gone", IfName: "eth0"}); held {
		t.Error("listed-gone is still held after it was not listed any more")
	}
}
