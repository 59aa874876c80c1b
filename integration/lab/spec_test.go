package lab

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestSpecDefaults(t *testing.T) {
	tests := []struct {
		name string
		spec Spec
		err  string
	}{
		{"zero", Spec{}, ""},
		{"no reflector", Spec{Reflectors: -1}, ""},
		{"bad name", Spec{Name: "Lab/1"}, "Name"},
		{"too many racks", Spec{Racks: 51}, "Racks"},
		{"three ToRs", Spec{ToRsPerRack: 3}, "ToRsPerRack"},
		{"unknown ToR", Spec{ToR: "quagga"}, "ToR"},
		{"negative nodes", Spec{NodesPerRack: -1}, "NodesPerRack"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.spec.withDefaults()
			if tt.err == "" && err != nil {
				t.Errorf("%v", err)
			}
			if tt.err != "" && (!errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want ErrSpec that names %s", err, tt.err)
			}
		})
	}
}

func TestParsePacket(t *testing.T) {
	addr := netip.MustParseAddr
	outer := "4500003c00004000400400000a39010b0a39020b" // 10.57.1.11 > 10.57.2.11, protocol 4
	inner := "45000028000040004001000" + "00af400050af40145"
	tests := []struct {
		name, packet string
		want         Packet
		ok           bool
	}{
		{"icmp", inner, Packet{Proto: 1, Src: addr("10.244.0.5"), Dst: addr("10.244.1.69")}, true},
		{"ipip", outer + inner, Packet{
			Proto: 4, Src: addr("10.57.1.11"), Dst: addr("10.57.2.11"),
			InnerSrc: addr("10.244.0.5"), InnerDst: addr("10.244.1.69"),
		}, true},
		{"ipip cut", outer, Packet{Proto: 4, Src: addr("10.57.1.11"), Dst: addr("10.57.2.11")}, true},
		{"ipv6", "6000000000003a40fd570001000000000000000000000011fd570002000000000000000000000012", Packet{
			Proto: 58, Src: addr("fd57:1::11"), Dst: addr("fd57:2::12"),
		}, true},
		{"arp", "0001080006040001", Packet{}, false},
		{"header longer than packet", "4f000000", Packet{}, false},
		{"empty", "", Packet{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.packet)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := parsePacket(b)
			if ok != tt.ok {
				t.Fatalf("ok %v, want %v", ok, tt.ok)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" && ok {
				t.Error(diff)
			}
		})
	}
}
