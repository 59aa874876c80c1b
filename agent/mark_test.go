package agent

import (
	"testing"

	"onlink/cni/pod"
	"onlink/fib/underlay"
	"onlink/internal/ours"
)

// TestOwnDevice: a device is ours by its mark, never by its name alone.
func TestOwnDevice(t *testing.T) {
	host := pod.HostDevice("id", "eth0")
	tests := []struct {
		device underlay.Device
		want   bool
	}{
		{underlay.Device{Name: "onlan0"}, false},
		{underlay.Device{Name: "onlab-uplink-0"}, false}, // 14 letters
		{underlay.Device{Name: "onlink-vxlan", Kind: "vxlan"}, false},
		{underlay.Device{Name: "onlink-vxlan", Kind: "bridge", Alias: "onlink"}, false},
		{underlay.Device{Name: "onlink-vxlan", Kind: "vxlan", Alias: "onlink"}, true},
		{underlay.Device{Name: "renamed", Kind: "ipip", Alias: "onlink"}, true},
		{underlay.Device{Name: host, Kind: "veth"}, false},
		{underlay.Device{Name: host, Kind: "veth", Alias: "onlink default/web id eth0"}, true}, // a former version's
		{underlay.Device{Name: "eth0", Kind: "veth", Alias: "onlink default/web id eth0"}, false},
		{underlay.Device{Name: host, Kind: "veth", Group: ours.PodGroup + 2}, true},
		{underlay.Device{Name: "renamed", Kind: "veth", Group: ours.PodGroup + 15}, true},
		{underlay.Device{Name: "eth0", Kind: "veth", Group: ours.PodGroup + 16}, false},
		{underlay.Device{Name: "eth0", Group: ours.PodGroup}, false}, // hardware
	}
	for _, tt := range tests {
		if got := ownDevice(tt.device); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.device, got, tt.want)
		}
	}
}
