package tunnel

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
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

// TestFormat: what both ends must agree on, and the protocol of the tunnel's packets.
func TestFormat(t *testing.T) {
	local := netip.MustParseAddr("10.57.1.11")
	for _, c := range []struct {
		d            Desired
		text, format string
		v4, v6       uint8
		port         uint16
	}{
		{Desired{Kind: IPIP, Local: local}, "ipip, local 10.57.1.11", "ipip", unix.IPPROTO_IPIP, unix.IPPROTO_IPV6, 0},
		{Desired{Kind: IP6, Local: local}, "ip6tnl, local 10.57.1.11", "ip6tnl", unix.IPPROTO_IPIP, unix.IPPROTO_IPV6, 0},
		{Desired{Kind: VXLAN, Local: local, VNI: 7, Port: 8472}, "vxlan, local 10.57.1.11, VNI 7, UDP port 8472", "vxlan, VNI 7, UDP port 8472", unix.IPPROTO_UDP, unix.IPPROTO_UDP, 8472},
	} {
		if c.d.String() != c.text || c.d.Format() != c.format {
			t.Errorf("%q and %q, want %q and %q", c.d, c.d.Format(), c.text, c.format)
		}
		for v6, want := range map[bool]uint8{false: c.v4, true: c.v6} {
			if protocol, port := c.d.Protocol(v6); protocol != want || port != c.port {
				t.Errorf("%s, IPv6 %t: protocol %d port %d, want %d and %d", c.d.Kind, v6, protocol, port, want, c.port)
			}
		}
	}
}
