package cni

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

// ofADD are the mistakes of a call in fields that only ADD reads, and CHECK in
// part.
var ofADD = []struct {
	name string
	conf map[string]any
	args string
}{
	{name: "annotated address", conf: annotated(annotationIPs, "10.244.300.1")},
	{name: "annotated prefix", conf: annotated(annotationIPs, "10.244.0.5/99")},
	{name: "annotated sysctl without a value", conf: annotated(annotationSysctls, "net.ipv4.tcp_rmem 4096")},
	{name: "annotated sysctl outside net", conf: annotated(annotationSysctls, "kernel.shmmax=1")},
	{name: "annotation that is a number", conf: annotated("onlink.io/pools", 5)},
	// A character of an annotation can take six in JSON.
	{name: "annotations of 256 KiB, escaped", conf: annotated("x", strings.Repeat("<", 256<<10))},
	{name: "annotations that are a list", conf: map[string]any{"runtimeConfig": map[string]any{"io.kubernetes.cri.pod-annotations": []int{1}}}},
	{name: "runtimeConfig", conf: map[string]any{"runtimeConfig": "none"}},
	{name: "capability ips", conf: map[string]any{"runtimeConfig": map[string]any{"ips": []string{"x"}}}},
	{name: "capability ips of wrong type", conf: map[string]any{"runtimeConfig": map[string]any{"ips": 7}}},
	{name: "capability mac", conf: map[string]any{"runtimeConfig": map[string]any{"mac": "01:00:00:00:00:01"}}},
	{name: "args", conf: map[string]any{"args": 5}},
	{name: "args ips", conf: map[string]any{"args": map[string]any{"cni": map[string]any{"ips": []string{"10.0.0.1/99"}}}}},
	{name: "mtu out of range", conf: map[string]any{"mtu": -1}},
	{name: "mtu of wrong type", conf: map[string]any{"mtu": "big"}},
	{name: "sysctls", conf: map[string]any{"sysctls": map[string]any{"net.ipv4.../x": "1"}}},
	{name: "sysctls of wrong type", conf: map[string]any{"sysctls": []string{"x"}}},
	{name: "pools", conf: map[string]any{"pools": "default"}},
	{name: "sticky", conf: map[string]any{"sticky": "maybe"}},
	{name: "dns", conf: map[string]any{"dns": 7}},
	{name: "prevResult", conf: map[string]any{"prevResult": 5}},
	{name: "prevResult of no version", conf: map[string]any{"prevResult": map[string]any{"cniVersion": 1, "ips": "none"}}},
	{name: "capabilities", conf: map[string]any{"capabilities": "all"}},
	{name: "network name", conf: map[string]any{"name": "a b"}},
	{name: "network name of wrong type", conf: map[string]any{"name": []int{1}}},
	{name: "no network name", conf: map[string]any{"name": ""}},
	{name: "CNI_ARGS IP", args: "K8S_POD_NAME=web-0;IP=ten"},
	{name: "CNI_ARGS MAC", args: "MAC=zz"},
	{name: "CNI_ARGS unknown key", args: "COLOUR=red"},
	{name: "CNI_ARGS without =", args: "IgnoreUnknown"},
	{name: "CNI_ARGS of no text", args: "K8S_POD_NAME=\xff\xfe"},
}

func annotated(name string, value any) map[string]any {
	return map[string]any{"runtimeConfig": map[string]any{"io.kubernetes.cri.pod-annotations": map[string]any{name: value}}}
}

// TestDelReadsNames ends pods with configurations that ADD refuses, or that
// changed after an ADD: runtimes repeat DEL until it succeeds.
func TestDelReadsNames(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	more := []struct {
		name string
		conf map[string]any
		args string
	}{
		{name: "version of the future", conf: map[string]any{"cniVersion": "9.9.9"}},
		{name: "version of wrong type", conf: map[string]any{"cniVersion": 1}},
		{name: "timeout", conf: map[string]any{"timeout": "soon"}},
		{name: "timeout of a day", conf: map[string]any{"timeout": 86400}},
	}
	for _, tt := range append(more, ofADD...) {
		t.Run(tt.name, func(t *testing.T) {
			n.t = t
			n.ok(add(pod))
			del := add(pod).as("DEL")
			del.conf = tt.conf
			if tt.args != "" {
				del.args = tt.args
			}
			for range 2 {
				if out := n.ok(del); out != "" {
					t.Errorf("DEL printed %q", out)
				}
			}
			n.clean()
		})
	}
	for _, name := range []string{"lo", "eth%d", "a/b", "sixteen-letters-", ".."} {
		t.Run("interface "+name, func(t *testing.T) {
			n.t = t
			c := add(pod)
			c.ifname = name
			n.fails(c, 4)
			n.ok(c.as("DEL"))
			n.clean()
		})
	}
	t.Run("long container", func(t *testing.T) {
		n.t = t
		c := add(pod)
		c.id = strings.Repeat("a", 300)
		n.fails(c, 4)
		n.ok(c.as("DEL"))
		n.clean()
	})
	for _, tt := range []struct{ name, id, ifname string }{{"no container", "", "eth0"}, {"no interface", testID, ""}} {
		t.Run(tt.name, func(t *testing.T) {
			n.t = t
			n.fails(call{verb: "DEL", id: tt.id, ifname: tt.ifname}, 4)
		})
	}
}

// TestDelAfterRules ends a pod whose sysctls the agent allows no more.
func TestDelAfterRules(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.server.SetSysctls([]string{"net.core.*"})
	c := add(pod)
	c.conf = map[string]any{"sysctls": map[string]string{"net.core.somaxconn": "500"}}
	n.ok(c)
	n.server.SetSysctls(nil)
	n.fails(c, 7)
	n.ok(c.as("DEL"))
	n.clean()
}

// TestOthersReadTheirs runs GC, STATUS and CHECK with mistakes that only ADD
// checks.
func TestOthersReadTheirs(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ok(add(pod))
	for _, tt := range ofADD {
		if strings.HasPrefix(tt.name, "annotations of 256 KiB") {
			continue // the plugin takes no more than 512 KiB but for DEL
		}
		t.Run(tt.name, func(t *testing.T) {
			n.t = t
			n.ok(call{verb: "STATUS", conf: tt.conf, args: strings.ToValidUTF8(tt.args, "")})
			conf := map[string]any{"cni.dev/valid-attachments": []any{map[string]any{"containerID": testID, "ifname": "eth0"}}}
			maps.Copy(conf, tt.conf)
			n.ok(call{verb: "GC", conf: conf, args: strings.ToValidUTF8(tt.args, "")})
		})
	}
	n.t = t
	out := n.ok(add(pod))
	for name, conf := range map[string]map[string]any{
		"pools": {"pools": 1}, "sticky": {"sticky": "maybe"}, "dns": {"dns": 7}, "args": {"args": 5},
		"annotated address": annotated(annotationIPs, "10.244.300.1"),
		"capability ips":    {"runtimeConfig": map[string]any{"ips": 7}},
	} {
		t.Run("CHECK with "+name, func(t *testing.T) {
			n.t = t
			check := add(pod).as("CHECK")
			check.args += ";IP=ten"
			check.conf = withPrev(t, conf, out)
			n.ok(check)
		})
	}
}

// TestGCGoesOn frees every pod that ended, also behind one that cannot be freed.
func TestGCGoesOn(t *testing.T) {
	n := newNode(t)
	n.ok(add(newSpace(t))) // it lives, and the runtime does not list it: kept
	var gone []Attachment
	for _, ifName := range []string{"net1", "net2", "net3"} {
		gone = append(gone, Attachment{ContainerID: "gone", IfName: ifName, Netns: "/run/netns/none"})
		if _, err := n.ipam.Assign(t.Context(), gone[len(gone)-1], Ask{}); err != nil {
			t.Fatal(err)
		}
	}
	n.ipam.set(func() {
		n.ipam.releasing = func(a Attachment) error {
			if a.IfName == "net2" {
				return errBroken
			}
			return nil
		}
	})
	gc := call{verb: "GC", conf: map[string]any{"cni.dev/valid-attachments": []any{}}}
	if o := n.fails(gc, 999); !strings.Contains(o.Details, "gone/net2") || strings.Contains(o.Details, "net3") {
		t.Errorf("GC does not name the one it could not free: %s", o.Details)
	}
	for i, want := range []bool{false, true, false} {
		if _, held := n.ipam.Lookup(gone[i]); held != want {
			t.Errorf("%s is held: %v, want %v", gone[i].IfName, held, want)
		}
	}
	n.ipam.set(func() { n.ipam.releasing = nil })
	n.ok(gc)
	if left := n.ipam.Attachments(); len(left) != 1 || left[0].ContainerID != testID {
		t.Errorf("leases %v are left, want the living pod's", left)
	}
}

var errBroken = errors.New("disk full")
