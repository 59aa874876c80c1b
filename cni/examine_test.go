package cni

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestExamine: a pod's interface is compared with that of ADD without the
// runtime's call, also where the runtime chose MTU and MAC address.
func TestExamine(t *testing.T) {
	chosen := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	for _, tt := range []struct {
		name string
		conf map[string]any
		pod  func() error
		want string
	}{
		{name: "whole"},
		{name: "chosen by the runtime", conf: map[string]any{"mtu": 1400, "runtimeConfig": map[string]any{"mac": chosen.String()}}},
		{name: "no default route", want: "default route via 169.254.1.1 missing", pod: func() error {
			return netlink.RouteDel(&netlink.Route{LinkIndex: link("eth0").Attrs().Index, Gw: net.IPv4(169, 254, 1, 1)})
		}},
		{name: "another MAC address", want: "MAC address is 02:00:00:00:00:09", pod: func() error { return netlink.LinkSetHardwareAddr(link("eth0"), chosen) }},
		{name: "no interface", want: "pod interface eth0: missing", pod: func() error {
			return errors.Join(netlink.LinkSetDown(link("eth0")), netlink.LinkSetName(link("eth0"), "gone0"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			c := add(pod)
			c.conf = tt.conf
			n.ok(c)
			if tt.pod != nil {
				pod.do(t, tt.pod)
			}
			got, err := n.server.Examine(t.Context(), Attachment{ContainerID: testID, IfName: "eth0", Netns: pod.path, Namespace: "default", Pod: "web-0"})
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(got.Differences, "; ")
			if tt.want == "" && all != "" || !strings.Contains(all, tt.want) {
				t.Errorf("%q, want %q", all, tt.want)
			}
			if (got.MAC == nil) != (tt.name == "no interface") {
				t.Errorf("MAC address %s", got.MAC)
			}
		})
	}
	t.Run("without addresses", func(t *testing.T) {
		n, pod := newNode(t), newSpace(t)
		if _, err := n.server.Examine(t.Context(), Attachment{ContainerID: testID, IfName: "eth0", Netns: pod.path}); !errors.Is(err, ErrMismatch) {
			t.Errorf("%v, want %v", err, ErrMismatch)
		}
	})
}
