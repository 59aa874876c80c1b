package bgp

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// TestUnnumberedHop: a neighbour with only a link-local address may announce :: as
// the global next hop, but never :: without a link-local one.
func TestUnnumberedHop(t *testing.T) {
	c := needsPatches(t)
	local, none := netip.MustParseAddr("fe80::7").As16(), [16]byte{}
	reach := func(hops ...byte) []byte {
		v := append([]byte{0, 1, 1, byte(len(hops))}, hops...)
		return whole(0x80, 14, append(append(v, 0), hostileNLRI...)...)
	}
	body := func(attr []byte) []byte {
		all := joined(whole(0x40, 1, 0), whole(0x40, 2, 2, 1, 0, 0, 0xfd, 0xe9), attr)
		return joined([]byte{0, 0, byte(len(all) >> 8), byte(len(all))}, all)
	}
	in := body(reach(slices.Concat(none[:], local[:])...))
	sent := slices.Clone(in)
	out, fault := c.CheckBody(in, bothFamilies, true, true)
	if want := body(reach(slices.Concat(local[:], local[:])...)); fault != nil || !slices.Equal(out, want) {
		t.Errorf("left %s, fault %v; want %s", hex.EncodeToString(out), fault, hex.EncodeToString(want))
	}
	if !slices.Equal(in, sent) {
		t.Error("what was received was changed")
	}
	for _, hops := range [][]byte{none[:], slices.Concat(none[:], none[:])} {
		if _, fault := c.CheckBody(body(reach(hops...)), bothFamilies, true, true); fault == nil || fault.ErrorHandling != bgp.ERROR_HANDLING_TREAT_AS_WITHDRAW {
			t.Errorf("next hop % x: fault %v, want treat-as-withdraw", hops, fault)
		}
	}
}

// TestScope: the next hops of a link-local peer are on its link; those of other
// peers are unchanged; and two routers with one address are refused.
func TestScope(t *testing.T) {
	s, err := New(testConfig(t, "127.40.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	peer := func(name, a string) Peer {
		return Peer{Name: name, Address: addr(a), Session: Session{Role: EBGP, ASN: 65001}}
	}
	z, err := zonesOf(map[netip.Addr]Peer{addr("fe80::1%up1"): peer("a", "fe80::1%up1"), addr("192.0.2.1"): peer("b", "192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	none := netip.Addr{}
	for _, tt := range []struct{ peer, hop, local, wantPeer, wantHop netip.Addr }{
		{addr("fe80::1"), addr("fe80::1"), none, addr("fe80::1%up1"), addr("fe80::1%up1")},
		{addr("fe80::1"), addr("fd00::1"), addr("fe80::1"), addr("fe80::1%up1"), addr("fe80::1%up1")},
		{addr("fe80::1"), addr("fd00::1"), none, addr("fe80::1%up1"), addr("fd00::1")},
		{addr("fe80::1"), addr("192.0.2.9"), none, addr("fe80::1%up1"), addr("192.0.2.9")},
		{addr("fd00::1"), addr("fd00::1"), addr("fe80::1"), addr("fd00::1"), addr("fd00::1")},
	} {
		if p, h := z.scope(tt.peer, tt.hop, tt.local); p != tt.wantPeer || h != tt.wantHop {
			t.Errorf("scope(%s, %s, %s) = %s, %s; want %s, %s", tt.peer, tt.hop, tt.local, p, h, tt.wantPeer, tt.wantHop)
		}
	}
	err = s.SetPeers(t.Context(), []Peer{peer("a", "fe80::1%up1"), peer("b", "fe80::1%up2")}, nil)
	if !errors.Is(err, ErrConfig) {
		t.Errorf("two peers of one link-local address: %v", err)
	}
}
