package tunnel

import (
	"net/netip"
	"testing"

	"onlink/internal/strictyaml"
)

// TestSettings: the section's values and mistakes; what it accepts is a device
// that can be made, at both ends of every bound.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want Settings
		err  string
	}{
		{"", Settings{Guard: GuardAuto, VXLAN: VXLANSettings{4096, 4789}}, ""},
		{"{mtu: auto, guard: off}", Settings{Guard: GuardOff, VXLAN: VXLANSettings{4096, 4789}}, ""},
		{"{mtu: 576, guard: required, vxlan: {vni: 1, port: 1}}", Settings{576, GuardRequired, VXLANSettings{1, 1}}, ""},
		{"{mtu: 65535, vxlan: {vni: 16777215, port: 65535}}", Settings{65535, GuardAuto, VXLANSettings{1<<24 - 1, 65535}}, ""},
		{"{vxlan: {port: 8472}}", Settings{Guard: GuardAuto, VXLAN: VXLANSettings{4096, 8472}}, ""},
		{"{mtu: 575}", Settings{}, "f:1: mtu: 575 is out of range; use 576 to 65535"},
		{"{guard: on}", Settings{}, `f:1: guard: "on" is not known; use one of off, auto, required`},
		{"{vxlan: {vni: 0}}", Settings{}, "f:1: vxlan.vni: 0 is out of range; use 1 to 16777215"},
		{"{vxlan: {port: 65536}}", Settings{}, "f:1: vxlan.port: 65536 is out of range; use 1 to 65535"},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			s := DefaultSettings()
			if err := strictyaml.Parse("f", []byte(c.text), s.Read).Err(); c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if s != c.want {
				t.Errorf("got %+v, want %+v", s, c.want)
			}
			for kind, local := range map[Kind]string{IPIP: "10.0.0.1", IP6: "fd00::1", VXLAN: "10.0.0.1"} {
				d := s.Device("t0", kind, netip.MustParseAddr(local))
				d.UnderlayMTU = 1500
				if err := d.validate(); err != nil || d.MTU != c.want.MTU {
					t.Errorf("%s: %+v, %v", kind, d, err)
				}
			}
		})
	}
}
