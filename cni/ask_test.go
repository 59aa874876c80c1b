package cni

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	onlinkv1 "onlink/proto/v1"
)

// TestAskOrder: every place wins over those below it.
func TestAskOrder(t *testing.T) {
	const (
		annotations = `"io.kubernetes.cri.pod-annotations":{"onlink.io/pools":"a, b","onlink.io/ips":"10.0.0.1,fd00::1","onlink.io/sticky":"db"}`
		capability  = `"ips":["10.0.0.2/24"]`
		args        = `"args":{"cni":{"ips":["10.0.0.3"],"pools":["c"],"sticky":"args"}}`
		conf        = `"pools":["e"],"sticky":true`
		env         = ";ONLINK_POOLS=d;ONLINK_STICKY=env;IP=10.0.0.4"
	)
	addr := netip.MustParseAddr
	tests := []struct {
		name, conf, env string
		want            Ask
	}{
		{
			"all", `"runtimeConfig":{` + annotations + "," + capability + "}," + args + "," + conf, env,
			Ask{Pools: []string{"a", "b"}, Addresses: []netip.Addr{addr("10.0.0.1"), addr("fd00::1")}, Sticky: "db"},
		},
		{
			"no annotations", `"runtimeConfig":{` + capability + "}," + args + "," + conf, env,
			Ask{Pools: []string{"c"}, Addresses: []netip.Addr{addr("10.0.0.2")}, Sticky: "args"},
		},
		{"no capability", args + "," + conf, env, Ask{Pools: []string{"c"}, Addresses: []netip.Addr{addr("10.0.0.3")}, Sticky: "args"}},
		{"no args", conf, env, Ask{Pools: []string{"d"}, Addresses: []netip.Addr{addr("10.0.0.4")}, Sticky: "env"}},
		{"conf alone", conf, "", Ask{Pools: []string{"e"}, Sticky: "web-0"}},
		{"the pod does not want it", `"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"onlink.io/sticky":"false"}},"sticky":true`, "", Ask{}},
		{"nothing", `"dns":{}`, "", Ask{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseRequest(verbAdd, &onlinkv1.CNIRequest{
				ContainerId: "c", Ifname: "eth0", Netns: "/run/netns/x", Args: "K8S_POD_NAME=web-0" + tt.env,
				Config: []byte(`{"cniVersion":"1.0.0","name":"onlink",` + tt.conf + "}"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, r.ask, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestChoice: a namespace's pools come before those of the configuration, and after
// the pod's own choice.
func TestChoice(t *testing.T) {
	namespaces := func(namespace string) []string {
		if namespace == "shop" {
			return []string{"s1", "s2"}
		}
		return nil
	}
	const conf, own = `"pools":["e"]`, `"args":{"cni":{"pools":["c"]}}`
	for _, tt := range []struct {
		name, namespace, conf, env string
		want                       []string
	}{
		{"over the configuration", "shop", conf, "", []string{"s1", "s2"}},
		{"over the default", "shop", `"dns":{}`, "", []string{"s1", "s2"}},
		{"another namespace", "other", conf, "", []string{"e"}},
		{"no namespace", "", conf, "", []string{"e"}},
		{"below an annotation", "shop", `"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"onlink.io/pools":"a"}}`, "", []string{"a"}},
		{"below args", "shop", own + "," + conf, "", []string{"c"}},
		{"below CNI_ARGS", "shop", conf, ";ONLINK_POOLS=d", []string{"d"}},
		{"a pod that names its address", "shop", conf, ";IP=10.0.0.4", []string{"e"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseRequest(verbAdd, &onlinkv1.CNIRequest{
				ContainerId: "c", Ifname: "eth0", Netns: "/run/netns/x", Args: "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=" + tt.namespace + tt.env,
				Config: []byte(`{"cniVersion":"1.0.0","name":"onlink",` + tt.conf + "}"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, r.choice(namespaces).Pools, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
