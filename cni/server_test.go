package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

const testID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func add(pod *space) call {
	return call{
		verb: "ADD", id: testID, ifname: "eth0", netns: pod.path,
		args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u-1;K8S_POD_INFRA_CONTAINER_ID=" + testID,
	}
}

// as returns c with another verb.
func (c call) as(verb string) call {
	c.verb = verb
	return c
}

// TestAddResult compares the result of every version with its golden file.
func TestAddResult(t *testing.T) {
	for _, version := range versions {
		for _, family := range []string{"ipv4", "dual"} {
			t.Run(version+"-"+family, func(t *testing.T) {
				n, pod := newNode(t), newSpace(t)
				n.ipam.set(func() { n.ipam.ipv6 = family == "dual" })
				c := add(pod)
				c.version = version
				got := strings.ReplaceAll(n.ok(c), pod.path, "/run/netns/pod")
				golden(t, filepath.Join("testdata", "add", version+"-"+family+".json"), got)
				if again := n.ok(c); strings.ReplaceAll(again, pod.path, "/run/netns/pod") != got {
					t.Errorf("second ADD answers differently:\n%s", again)
				}
				n.ok(c.as("DEL"))
				n.clean()
			})
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

var errStarting = errors.New("no block claimed yet")

// TestDel runs the ways runtimes call DEL.
func TestDel(t *testing.T) {
	tests := []struct {
		name string
		edit func(c *call, pod *space)
	}{
		{"with namespace", func(*call, *space) {}},
		{"without namespace and prevResult", func(c *call, _ *space) { c.netns = "" }},
		{"namespace gone", func(_ *call, pod *space) { pod.close() }},
		{"path that was never a namespace", func(c *call, _ *space) { c.netns = "/etc/hostname" }},
		{"oldest version", func(c *call, _ *space) { c.version = "0.3.1" }},
		{"unusable prevResult", func(c *call, _ *space) { c.conf = map[string]any{"prevResult": map[string]any{"ips": "none"}} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			c := add(pod)
			n.ok(c)
			del := c.as("DEL")
			tt.edit(&del, pod)
			for range 3 { // runtimes DEL twice, and once more after a restart
				if out := n.ok(del); out != "" {
					t.Errorf("DEL printed %q", out)
				}
			}
			n.clean()
		})
	}
}

// TestErrors runs requests that must fail with one error code and leave
// nothing behind.
func TestErrors(t *testing.T) {
	tests := []struct {
		name string
		edit func(n *node, c *call)
		code uint
		want string // part of details
	}{
		{"version too old", func(_ *node, c *call) { c.version = "0.2.0" }, 1, "0.2.0"},
		{"version too new", func(_ *node, c *call) { c.version = "2.0.0" }, 1, "2.0.0"},
		{"CHECK before 0.4.0", func(_ *node, c *call) { c.verb, c.version = "CHECK", "0.3.1" }, 1, "CHECK"},
		{"GC before 1.1.0", func(_ *node, c *call) { c.verb, c.version = "GC", "1.0.0" }, 1, "GC"},
		{"STATUS before 1.1.0", func(_ *node, c *call) { c.verb, c.version = "STATUS", "1.0.0" }, 1, "STATUS"},
		{"no container", func(_ *node, c *call) { c.id = "" }, 4, "CNI_CONTAINERID"},
		{"bad container", func(_ *node, c *call) { c.id = "../x" }, 4, "CNI_CONTAINERID"},
		{"long container", func(_ *node, c *call) { c.id = strings.Repeat("a", 129) }, 4, "CNI_CONTAINERID"},
		{"no interface", func(_ *node, c *call) { c.ifname = "" }, 4, "CNI_IFNAME"},
		{"long interface", func(_ *node, c *call) { c.ifname = "sixteen-letters-" }, 4, "CNI_IFNAME"},
		{"slash in interface", func(_ *node, c *call) { c.ifname = "a/b" }, 4, "CNI_IFNAME"},
		{"pattern as interface", func(_ *node, c *call) { c.ifname = "eth%d" }, 4, "CNI_IFNAME"},
		{"loopback as interface", func(_ *node, c *call) { c.ifname = "lo" }, 4, "CNI_IFNAME"},
		{"no netns", func(_ *node, c *call) { c.netns = "" }, 4, "CNI_NETNS"},
		{"absent netns", func(_ *node, c *call) { c.netns = "/run/netns/none" }, 8, "no such file"},
		{"file as netns", func(_ *node, c *call) { c.netns = "/etc/hostname" }, 8, "not a namespace"},
		{"other kind of namespace", func(_ *node, c *call) { c.netns = "/proc/self/ns/uts" }, 8, "not of network kind"},
		{"agent's own netns", func(n *node, c *call) { c.netns = n.space.path }, 8, "own namespace"},
		{"unknown argument", func(_ *node, c *call) { c.args = "COLOUR=red" }, 4, "COLOUR"},
		{"malformed argument", func(_ *node, c *call) { c.args = "IgnoreUnknown" }, 4, "KEY=VALUE"},
		{"malformed boolean", func(_ *node, c *call) { c.args = "IgnoreUnknown=maybe" }, 4, "IgnoreUnknown"},
		{"malformed IP argument", func(_ *node, c *call) { c.args = "IP=ten" }, 4, "IP"},
		{"no network name", func(_ *node, c *call) { c.conf = map[string]any{"name": ""} }, 7, "name"},
		{"bad network name", func(_ *node, c *call) { c.conf = map[string]any{"name": "a b"} }, 7, "name"},
		{"mtu of wrong type", func(_ *node, c *call) { c.conf = map[string]any{"mtu": "big"} }, 7, "mtu"},
		{"mtu out of range", func(_ *node, c *call) { c.conf = map[string]any{"mtu": 20} }, 7, "mtu"},
		{"bad mac", func(_ *node, c *call) {
			c.conf = map[string]any{"runtimeConfig": map[string]any{"mac": "01:00:00:00:00:01"}}
		}, 7, "runtimeConfig.mac"},
		{"bad ips", func(_ *node, c *call) {
			c.conf = map[string]any{"runtimeConfig": map[string]any{"ips": []string{"x"}}}
		}, 7, "runtimeConfig.ips"},
		{"unusable prevResult", func(_ *node, c *call) {
			c.conf = map[string]any{"prevResult": map[string]any{"ips": "none"}}
		}, 7, "prevResult"},
		{"GC without list", func(_ *node, c *call) { c.verb = "GC" }, 7, "valid-attachments"},
		{"relative socket", func(_ *node, c *call) { c.conf = map[string]any{"socket": "cni.sock"} }, 7, "socket"},
		{"timeout of wrong type", func(_ *node, c *call) { c.conf = map[string]any{"timeout": "soon"} }, 7, "timeout"},
		{"garbage", func(_ *node, c *call) { c.stdin = []byte("\x00\x01garbage") }, 6, "byte"},
		{"cut off", func(n *node, c *call) { c.stdin = n.config(*c)[:20] }, 6, "unexpected end"},
		{"JSON that is no object", func(_ *node, c *call) { c.stdin = []byte("[]") }, 6, "unexpected"},
		{"broken inside", func(n *node, c *call) {
			c.stdin = []byte(`{"name":"x","a":[1 2],"socket":"` + n.socket + `"}`)
		}, 6, "invalid character"},
		{"nothing", func(_ *node, c *call) { c.stdin = []byte{} }, 6, "unexpected end"},
		{"one megabyte", func(n *node, c *call) { c.stdin = append(n.config(*c), strings.Repeat(" ", 1<<20)...) }, 7, "524288"},
		{"one megabyte of garbage", func(_ *node, c *call) { c.stdin = make([]byte, 1<<20) }, 7, "524288"},
		{"unknown command", func(_ *node, c *call) { c.verb = "PLUG" }, 4, "PLUG"},
		{"empty environment", func(_ *node, c *call) { c.env = []string{} }, 4, "CNI_COMMAND"},
		{"pool exhausted", func(n *node, _ *call) {
			n.ipam.set(func() { n.ipam.fail = fmt.Errorf("%w: pool default has no free address", ErrRetryLater) })
		}, 11, "no free address"},
		{"store broken", func(n *node, _ *call) { n.ipam.set(func() { n.ipam.fail = errors.New("disk full") }) }, 999, "disk full"},
		{"agent not ready", func(n *node, _ *call) { n.setReady(errStarting) }, 11, "no block"},
		{"STATUS of an agent not ready", func(n *node, c *call) {
			c.verb = "STATUS"
			n.setReady(errStarting)
		}, 50, "no block"},
		{"STATUS with limits", func(n *node, c *call) {
			c.verb = "STATUS"
			n.setReady(fmt.Errorf("%w: no BGP session is up", ErrLimited))
		}, 51, "no BGP session"},
	}
	n, pod := newNode(t), newSpace(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n.t = t
			c := add(pod)
			tt.edit(n, &c)
			o := n.fails(c, tt.code)
			if !strings.Contains(o.Details, tt.want) {
				t.Errorf("details %q do not say %q", o.Details, tt.want)
			}
			n.setReady(nil)
			n.ipam.set(func() { n.ipam.fail = nil })
			n.clean()
		})
	}
	n.t = t
	n.ok(add(pod)) // the agent is unharmed
	n.ok(add(pod).as("DEL"))
}

// TestStatusVersion runs the verbs that need no container.
func TestStatusVersion(t *testing.T) {
	n := newNode(t)
	if out := n.ok(call{verb: "STATUS"}); out != "" {
		t.Errorf("STATUS printed %q", out)
	}
	for _, version := range versions {
		want := `{"cniVersion":"` + version + `","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}` + "\n"
		if diff := cmp.Diff(want, n.ok(call{verb: "VERSION", version: version})); diff != "" {
			t.Errorf("VERSION %s (-want +got):\n%s", version, diff)
		}
	}
	n.stop() // VERSION needs no agent
	n.ok(call{verb: "VERSION"})
}

// TestLimited serves ADD while connectivity is limited: local pods work.
func TestLimited(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.setReady(fmt.Errorf("%w: no BGP session is up", ErrLimited))
	n.ok(add(pod))
}

// TestRequests runs ADD with the settings that runtimes may pass.
func TestRequests(t *testing.T) {
	tests := []struct {
		name string
		edit func(c *call)
		want []string // parts of the result
	}{
		{"capability ips", func(c *call) {
			c.conf = map[string]any{"runtimeConfig": map[string]any{"ips": []string{"10.65.9.1/24", "fd00:65::9"}}}
		}, []string{"10.65.9.1/32", "fd00:65::9/128"}},
		{"conf args ips", func(c *call) {
			c.conf = map[string]any{"args": map[string]any{"cni": map[string]any{"ips": []string{"10.65.9.2"}}}}
		}, []string{"10.65.9.2/32"}},
		{"CNI_ARGS IP and MAC, unknown key first", func(c *call) {
			c.args = "COLOUR=red;IP=10.65.9.3;MAC=02:00:00:00:00:07;IgnoreUnknown=true"
		}, []string{"10.65.9.3/32", "02:00:00:00:00:07"}},
		{"capability mac", func(c *call) {
			c.conf = map[string]any{"runtimeConfig": map[string]any{"mac": "02:00:00:00:00:08"}}
		}, []string{"02:00:00:00:00:08"}},
		{"mtu", func(c *call) { c.conf = map[string]any{"mtu": 1300} }, []string{`"mtu": 1300`}},
		{"dns", func(c *call) {
			c.conf = map[string]any{"dns": map[string]any{"nameservers": []string{"10.96.0.10"}}}
		}, []string{"10.96.0.10"}},
		{"no arguments", func(c *call) { c.args = "" }, nil},
		{"long pod name", func(c *call) {
			c.args = "K8S_POD_NAMESPACE=" + strings.Repeat("n", 63) + ";K8S_POD_NAME=" + strings.Repeat("p", 253)
		}, nil},
		{"keys of other plugins", func(c *call) { c.conf = map[string]any{"ipam": map[string]any{}, "x": []any{1, nil}} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			c := add(pod)
			tt.edit(&c)
			out := n.ok(c)
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("result lacks %q:\n%s", want, out)
				}
			}
			check := c.as("CHECK")
			check.conf = withPrev(t, c.conf, out)
			n.ok(check)
			n.ok(c.as("DEL"))
			n.clean()
		})
	}
}

// withPrev returns conf with a prevResult.
func withPrev(t *testing.T, conf map[string]any, result string) map[string]any {
	t.Helper()
	out := map[string]any{}
	maps.Copy(out, conf)
	var prev any
	if err := json.Unmarshal([]byte(result), &prev); err != nil {
		t.Fatal(err)
	}
	out["prevResult"] = prev
	return out
}

// TestChain runs ADD behind another plugin: its result is kept and ours
// follows.
func TestChain(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			c := add(pod)
			c.version = version
			ip := map[string]any{"address": "192.0.2.7/24", "interface": 0}
			if version < "1.0.0" {
				ip["version"] = "4"
			}
			c.conf = map[string]any{"prevResult": map[string]any{
				"cniVersion": version, "ips": []any{ip},
				"interfaces": []any{map[string]any{"name": "net0", "sandbox": pod.path}},
			}}
			golden(t, filepath.Join("testdata", "chain", version+".json"), strings.ReplaceAll(n.ok(c), pod.path, "/run/netns/pod"))
		})
	}
}

// TestSecondInterface attaches a pod twice; the first default route stays the
// preferred one.
func TestSecondInterface(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ipam.set(func() { n.ipam.ipv6 = true })
	first, second := add(pod), add(pod)
	second.ifname = "net1"
	n.ok(first)
	out := n.ok(second)
	check := second.as("CHECK")
	check.conf = withPrev(t, nil, out)
	n.ok(check)
	pod.do(t, func() error {
		routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 1))
		if err != nil {
			return err
		}
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if routes[0].LinkIndex != eth0.Attrs().Index {
			t.Errorf("traffic leaves through %v, want eth0", routes[0])
		}
		return nil
	})
	n.ok(first.as("DEL"))
	n.ok(check)
	n.ok(second.as("DEL"))
	n.clean()
}
