package bgp

import (
	"debug/elf"
	"debug/gosym"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// TestAdvisories plays the messages of the public advisories against GoBGP. The
// subtests bear their names; deploy/security states for each that it does not
// apply, and names its subtest. No message ends anything but its own session,
// and none makes the engine panic.
func TestAdvisories(t *testing.T) {
	needsPatches(t)
	w := startWitnessed(t, "127.92")
	n := hostileNLRI
	cut := func(flags, typ byte, value ...byte) (bodies [][]byte) {
		for i := range value {
			bodies = append(bodies, updateBody(typ, whole(flags, typ, value[:i]...), n))
		}
		return bodies
	}
	const kept = "kept" // the session stays up
	for i, tt := range []struct {
		name   string
		want   string
		bodies [][]byte // of an UPDATE each
	}{
		{"CVE-2026-30405", kept, cut(0x40, 3, 127, 92, 0, 7)},
		{"CVE-2026-41642", "3/2", [][]byte{{0, 0, 0, 3, 0x40, 0xee, 0}, {0, 0, 0, 7, 0x40, 1, 1, 0, 0x40, 0xff, 0}}},
		{"CVE-2026-42285", kept, [][]byte{
			// A prefix is withdrawn, and the attributes that announce others are cut.
			append([]byte{0, 4, 24, 172, 16, 1}, updateBody(3, whole(0x40, 3, 1, 2), n)[2:]...),
			append([]byte{0, 4, 24, 172, 16, 1}, updateBody(0, whole(0xc0, 8, 1), n)[2:]...),
		}},
		{"CVE-2026-7734", kept, cut(0xc0, 40, 5, 0, 14, 0, 1, 0, 30, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 2)},
		{"CVE-2026-7735", kept, cut(0x80, 26, 1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2)},
		{"CVE-2026-37461", kept, cut(0xc0, 25, 0, 2, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0)},
		{"CVE-2026-37462", "3/1", [][]byte{{0, 200, 0, 0}, {0xff, 0xff, 0, 0}, {0, 0, 0, 200}, {0, 0, 0xff, 0xff}, {0, 1, 0, 0, 1}, {0, 4, 24, 10, 244, 9, 0, 1}}},
		{"CVE-2025-43972", kept, [][]byte{
			updateBody(0, whole(0x80, 14, 0, 1, 133, 0, 0, 3, 1, 24, 10), n), updateBody(0, whole(0x80, 15, 0, 1, 133, 2, 1, 24), n),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for j, body := range tt.bodies {
				p := dialRaw(t, fmt.Sprintf("127.92.%d.%d", 1+i, 1+j), "127.92.0.1")
				p.t = t
				p.send(2, body)
				if tt.want != kept {
					if got := p.closing(); got != tt.want {
						t.Errorf("%x: ended with %q, want %s", body, got, tt.want)
					}
					continue
				}
				w.takesMore(t, p)
			}
		})
	}
	t.Run("CVE-2026-41643", func(t *testing.T) {
		path, as4 := whole(0x40, 2, 2, 1, 0x5b, 0xa0), whole(0xc0, 17, 2, 9, 0, 1)
		rest := joined(attrOrigin, []byte{0x40, 3, 4, 127, 92, 20, 1}, attrLocalPref)
		for j, attrs := range [][]byte{joined(as4, path, rest), joined(rest, as4, path), joined(as4, as4, path, rest)} {
			p := dialTwoOctets(t, fmt.Sprintf("127.92.20.%d", 1+j), "127.92.0.1")
			p.update(attrs, n)
			w.takesMore(t, p)
		}
	})
	t.Run("CVE-2026-49837", func(t *testing.T) {
		// The capability of no length would read AS 64512 from those behind it.
		p := connectRaw(t, "127.92.21.1", "127.92.0.1")
		t.Cleanup(func() { _ = p.conn.Close() }) // the test is over
		p.send(1, append(append([]byte{4, 0x5b, 0xa0, 0, 90}, net.IPv4(127, 92, 21, 1).To4()...), 8, 2, 6, 65, 0, 0, 0, 0xfc, 0))
		if got := p.answer(); got != "2/0" {
			t.Errorf("an OPEN whose AS number stands in no capability: %q, want 2/0", got)
		}
	})
	t.Run("CVE-2026-49838", func(t *testing.T) {
		// No peer of this speaker is in its confederation: the validator is called
		// for one.
		families := map[bgp.RouteFamily]bgp.BGPAddPathMode{bgp.RF_IPv4_UC: 0}
		update := bgp.NewBGPUpdateMessage(nil, []bgp.PathAttributeInterface{
			bgp.NewPathAttributeOrigin(0), bgp.NewPathAttributeAsPath(nil), bgp.NewPathAttributeNextHop("127.92.0.7"),
		}, []*bgp.IPAddrPrefix{bgp.NewIPAddrPrefix(26, "10.244.99.0")})
		u, ok := update.Body.(*bgp.BGPUpdate)
		if !ok {
			t.Fatalf("no UPDATE: %T", update.Body)
		}
		if ok, err := bgp.ValidateUpdateMsg(u, families, true, true, false); ok || err == nil {
			t.Error("an empty AS_PATH from a member of the confederation passed")
		}
	})
	w.unharmed()
	if n := w.Faults().Panics; n != 0 {
		t.Errorf("%d panics were contained, want none", n)
	}
}

// takesMore requires that a route announced after a bad message is accepted: the
// session lives.
func (w *witnessed) takesMore(t *testing.T, p *rawPeer) {
	t.Helper()
	from := addrOf(p)
	b := from.As4()
	more := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, b[2]*8 + b[3]/4, b[3] % 4 << 6}), 26)
	p.update(joined(attrOrigin, attrASPath, attrNextHop, attrLocalPref), append([]byte{26}, more.Addr().AsSlice()...))
	eventually(t, func() string {
		if !has(w.node, more, from.String()) {
			return "the next route did not arrive: " + w.ledger.get(from).lastError
		}
		return ""
	})
}

// addrOf is the address that a peer connected from.
func addrOf(p *rawPeer) netip.Addr {
	local, err := netip.ParseAddrPort(p.conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return local.Addr()
}

// TestUnusedParsers: the readers of MRT files and of BMP messages, against
// which there are advisories, cannot be reached in a program with this package:
// nothing calls their entry points, so the linker leaves these out.
func TestUnusedParsers(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	lines, err := f.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(lines, f.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for _, fn := range table.Funcs {
		linked[fn.Name] = true
	}
	const packages = "github.com/osrg/gobgp/v3/pkg/"
	if !linked[packages+"server.(*BgpServer).Serve"] {
		t.Fatal("the server is not found either: this test sees nothing")
	}
	for _, name := range []string{"mrt.ParseMRTBody", "mrt.SplitMrt", "bmp.ParseBMPMessage", "bmp.ParseBMPMessageWithOptions"} {
		if linked[packages+"packet/"+name] {
			t.Errorf("%s is in the program", name)
		}
	}
}
