package tunnel

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
)

// TestInvalid: what describes no device is refused before the kernel is asked.
func TestInvalid(t *testing.T) {
	good := Desired{Name: "t0", Kind: VXLAN, Local: local4, UnderlayMTU: 1500, VNI: 1, Port: 4789}
	if err := good.validate(); err != nil {
		t.Fatalf("valid: %v", err)
	}
	tests := []struct {
		name  string
		spoil func(*Desired)
	}{
		{"no name", func(d *Desired) { d.Name = "" }},
		{"unknown kind", func(d *Desired) { d.Kind = 9 }},
		{"no local", func(d *Desired) { d.Local = netip.Addr{} }},
		{"unspecified local", func(d *Desired) { d.Local = netip.IPv4Unspecified() }},
		{"zone", func(d *Desired) { d.Local = netip.MustParseAddr("fe80::1%eth0") }},
		{"ipip over IPv6", func(d *Desired) { d.Kind, d.Local = IPIP, local6 }},
		{"ip6tnl over IPv4", func(d *Desired) { d.Kind = IP6 }},
		{"no mtu", func(d *Desired) { d.UnderlayMTU = 0 }},
		{"vni zero", func(d *Desired) { d.VNI = 0 }},
		{"vni too large", func(d *Desired) { d.VNI = 1 << 24 }},
		{"no port", func(d *Desired) { d.Port = 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := good
			tt.spoil(&d)
			if err := d.validate(); !errors.Is(err, ErrInvalid) {
				t.Errorf("validate: %v, want ErrInvalid", err)
			}
			if _, err := New(slog.New(slog.DiscardHandler)).Ensure(t.Context(), []Desired{d}); !errors.Is(err, ErrInvalid) {
				t.Errorf("Ensure: %v, want ErrInvalid", err)
			}
		})
	}
}

// TestMAC: locally administered, unicast, different for different nodes.
func TestMAC(t *testing.T) {
	seen := map[string]netip.Addr{}
	for _, base := range []string{"10.57.0.1", "10.57.1.1", "fd57::1", "fd57::1:0", "fd57:0:0:1::1"} {
		a := netip.MustParseAddr(base)
		for range 200 {
			m := MAC(a)
			if m[0]&3 != 2 {
				t.Fatalf("MAC(%s) = %s: not locally administered unicast", a, m)
			}
			if other, ok := seen[m.String()]; ok {
				t.Fatalf("MAC %s for %s and %s", m, a, other)
			}
			seen[m.String()] = a
			a = a.Next()
		}
	}
}
