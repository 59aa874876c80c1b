package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestValidatePools(t *testing.T) {
	for _, tc := range []struct {
		name  string
		pools []Pool
		want  string // in the error; empty: none
	}{
		{"none", nil, ""},
		{"defaults", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/16")}, {Name: "b", CIDR: pfx("fd00::/48")}}, ""},
		{"pool of one block", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/26")}}, ""},
		{"blocks of one address", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/30"), BlockSize: 32}}, ""},
		{"no name", []Pool{{CIDR: pfx("10.0.0.0/16")}}, "name is empty"},
		{"no cidr", []Pool{{Name: "a"}}, "cidr is missing"},
		{"host bits", []Pool{{Name: "a", CIDR: pfx("10.0.0.1/16")}}, "write 10.0.0.0/16"},
		{"mapped", []Pool{{Name: "a", CIDR: pfx("::ffff:10.0.0.0/112"), BlockSize: 122}}, "write it as IPv4"},
		{"block too large", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/8"), BlockSize: 19}}, "choose /20 to /32"},
		{"block too small", []Pool{{Name: "a", CIDR: pfx("fd00::/48"), BlockSize: 129}}, "choose /116 to /128"},
		{"pool smaller than a block", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/28")}}, "choose /28 or longer"},
		{"reserved outside", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/16"), Reserved: []netip.Prefix{pfx("10.1.0.0/24")}}}, "reserved 10.1.0.0/24"},
		{"reserved larger", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/16"), Reserved: []netip.Prefix{pfx("10.0.0.0/8")}}}, "reserved 10.0.0.0/8"},
		{"same name", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/16")}, {Name: "a", CIDR: pfx("10.1.0.0/16")}}, "used twice"},
		{"overlap", []Pool{{Name: "a", CIDR: pfx("10.0.0.0/16")}, {Name: "b", CIDR: pfx("10.0.64.0/20")}}, `overlaps 10.0.0.0/16 of pool "a"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := ValidatePools(tc.pools)
			if (err != nil) != (tc.want != "") || err != nil && (!errors.Is(err, ErrInvalidPool) || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("error is %v, want %q", err, tc.want)
			}
		})
	}
}

func TestBlockArithmetic(t *testing.T) {
	for _, tc := range []struct {
		cidr  string
		size  int
		n     uint64
		block string
		count uint64
	}{
		{"10.244.0.0/16", 26, 0, "10.244.0.0/26", 1024},
		{"10.244.0.0/16", 26, 1023, "10.244.255.192/26", 1024},
		{"255.255.255.0/24", 32, 255, "255.255.255.255/32", 256},
		{"0.0.0.0/0", 32, 1<<32 - 1, "255.255.255.255/32", 1 << 32},
		{"10.0.0.0/26", 26, 0, "10.0.0.0/26", 1},
		{"fd00::/48", 122, 1, "fd00::40/122", 1 << 32},
		{"fd00::/48", 122, 1<<32 - 1, "fd00::3f:ffff:ffc0/122", 1 << 32},
		{"fd00:0:0:ffff::/64", 128, 1 << 31, "fd00:0:0:ffff::8000:0/128", 1 << 32},
	} {
		if got := blockAt(pfx(tc.cidr), tc.size, tc.n); got != pfx(tc.block) {
			t.Errorf("block %d of %s is %v, want %s", tc.n, tc.cidr, got, tc.block)
		}
		if got := blockCount(pfx(tc.cidr), tc.size); got != tc.count {
			t.Errorf("%s has %d blocks, want %d", tc.cidr, got, tc.count)
		}
	}
	for _, p := range []string{"10.244.255.192/26", "fd00:0:0:1:ffff:ffff:ffff:ffc0/122", "fd00::/116"} {
		p := pfx(p)
		for n := range size(p) {
			if a := addrAt(p, n); !p.Contains(a) || ordinal(p, a) != n {
				t.Fatalf("address %d of %v is %v with ordinal %d", n, p, a, ordinal(p, a))
			}
		}
	}
}

func TestStartSpreadsNodes(t *testing.T) {
	seen := map[uint64]int{}
	for i := range 1000 {
		r := ClaimRequest{Caller: Caller{Node: "rack-1-node-" + string(rune('a'+i%26)) + string(rune('a'+i/26))}, PoolCIDR: pfx("10.0.0.0/12"), BlockSize: 26}
		seen[r.Start()]++
	}
	if len(seen) < 950 { // 1000 of 16384 at random: about 970 differ
		t.Fatalf("1000 nodes begin at %d places", len(seen))
	}
}
