package bgp

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"onlink/bgp/policy"
)

// FuzzUpdate: a message that the check of UPDATEs passes can be decoded, printed,
// encoded again and converted, and passes again. The first byte chooses the
// kind of session.
func FuzzUpdate(f *testing.F) {
	c := needsPatches(f)
	for _, a := range slices.Concat(attacks.Attributes(), attacks.Updates()) {
		for kind := range byte(2) {
			f.Add(append([]byte{kind}, a.Body...))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > 4096-19 {
			return
		}
		kind, body := data[0], data[1:]
		families := map[bgp.RouteFamily]bgp.BGPAddPathMode{bgp.RF_IPv4_UC: 0, bgp.RF_IPv6_UC: 0}
		if kind&4 != 0 {
			families = map[bgp.RouteFamily]bgp.BGPAddPathMode{bgp.RF_IPv4_UC: bgp.BGP_ADD_PATH_RECEIVE, bgp.RF_IPv6_UC: bgp.BGP_ADD_PATH_RECEIVE}
		}
		clean, fault := c.CheckBody(body, families, kind&1 == 0, kind&2 != 0)
		if clean == nil {
			return
		}
		if fault != nil && fault.ErrorHandling == bgp.ERROR_HANDLING_SESSION_RESET {
			t.Fatalf("the session is reset, and yet %x is to be decoded", clean)
		}
		decodeAll(t, clean, families)
		again, second := c.CheckBody(clean, families, true, kind&2 != 0)
		if second != nil && second.ErrorHandling > bgp.ERROR_HANDLING_ATTRIBUTE_DISCARD && (fault == nil || fault.ErrorHandling < second.ErrorHandling) {
			t.Errorf("what passed once does not pass again: %v\nfirst  %x\nsecond %x", second, clean, again)
		}
	})
}

// decodeAll makes all calls with a body that the engine and this package ever make.
func decodeAll(t *testing.T, body []byte, families map[bgp.RouteFamily]bgp.BGPAddPathMode) {
	t.Helper()
	options := &bgp.MarshallingOption{AddPath: families}
	length := 19 + len(body)
	m, err := bgp.ParseBGPBody(&bgp.BGPHeader{Type: 2, Len: uint16(length)}, body, options)
	if err != nil {
		t.Fatalf("checked, but not decoded: %v: %x", err, body)
	}
	u, ok := m.Body.(*bgp.BGPUpdate)
	if !ok {
		t.Fatalf("decoded as %T", m.Body)
	}
	for _, a := range u.PathAttributes {
		_ = a.String()
		_, _ = a.MarshalJSON() // it refuses NaN; that it does not panic is enough
		if _, err := a.Serialize(); err != nil {
			t.Errorf("write %T: %v", a, err)
		}
	}
	if _, err := apiutil.MarshalPathAttributes(u.PathAttributes); err != nil {
		t.Errorf("convert: %v: %x", err, body)
	}
	if _, err := u.Serialize(); err != nil {
		t.Errorf("write: %v", err)
	}
	bgp.TreatAsWithdraw(u)
}

// arena is the speaker that FuzzSession attacks, with one peer that must not be
// harmed.
type arena struct {
	x         *Speaker
	good      *Speaker
	contained *atomic.Int32 // panics that the engine caught
	next      atomic.Uint32 // the next attacker's address
}

// panicCounter counts the engine's records of caught panics.
type panicCounter struct {
	slog.Handler
	n *atomic.Int32
}

func (h panicCounter) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.Contains(a.Value.String(), "contained a panic") {
			h.n.Add(1)
		}
		return true
	})
	return nil
}

func (panicCounter) Enabled(context.Context, slog.Level) bool { return true }

// newArena starts the two speakers; they live as long as the process, which
// the fuzzing engine uses for many inputs.
var newArena = sync.OnceValues(func() (*arena, error) {
	a := &arena{contained: new(atomic.Int32)}
	start := func(at string) (*Speaker, error) {
		s, err := New(Config{
			ASN: 64512, RouterID: addr(at), NodeAddress: addr(at),
			ListenAddresses: []netip.Addr{addr(at)}, ListenPort: testPort, Pools: []policy.Pool{{Prefix: prefix("10.244.0.0/16")}},
			Log: slog.New(panicCounter{slog.DiscardHandler, a.contained}),
		})
		if err != nil {
			return nil, err
		}
		if err := s.Start(context.Background()); err != nil {
			return nil, err
		}
		go func() { _ = s.Run(context.Background()) }() // until the process ends
		return s, nil
	}
	var err error
	if a.x, err = start("127.45.0.1"); err != nil {
		return nil, err
	}
	if a.good, err = start("127.45.0.2"); err != nil {
		return nil, err
	}
	clients := clientsOf("127.45.0.0/16")
	clients.Families = []Family{IPv4, IPv6}
	if err := a.x.SetPeers(context.Background(), nil, []Dynamic{clients}); err != nil {
		return nil, err
	}
	if err := a.good.SetPeers(context.Background(), []Peer{from(to("127.45.0.1", IBGP), "127.45.0.2")}, nil); err != nil {
		return nil, err
	}
	return a, nil
})

// stateOf is the attacked speaker's status of the good peer.
func (a *arena) stateOf() PeerStatus {
	for _, p := range a.x.Peers() {
		if p.Address == addr("127.45.0.2") {
			return p
		}
	}
	return PeerStatus{}
}

// FuzzSession: messages in any state do no more than end their session. The
// first byte is how far a good session is brought before, and its bit 6 that
// AS numbers have two octets; then come messages:
// a byte for the type, or 0xf0 and above for raw bytes, a byte for the length,
// the body.
func FuzzSession(f *testing.F) {
	needsPatches(f)
	for _, a := range slices.Concat(attacks.Attributes(), attacks.Updates(), attacks.Messages(), attacks.Opens()) {
		if a.Run == nil && len(a.Body) < 256 {
			script := append([]byte{a.Type, byte(len(a.Body))}, a.Body...)
			for state := range byte(3) {
				f.Add(append([]byte{state}, script...))
			}
		}
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		a, err := newArena()
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func() string {
			if s := a.stateOf(); s.State != established {
				return "the good peer is " + s.State
			}
			return ""
		})
		before := a.stateOf()
		n := 3 + a.next.Add(1)%60000
		local := fmt.Sprintf("127.45.%d.%d", n>>8, n&255)
		if err := play(t.Context(), local, script); err != nil {
			t.Fatal(err)
		}
		if after := a.stateOf(); after.State != established || after.Flaps != before.Flaps || !after.Since.Equal(before.Since) {
			t.Errorf("the good peer's session was %+v, is %+v", before, after)
		}
		if n := a.contained.Swap(0); n > 0 {
			t.Errorf("%d panics were contained", n)
		}
	})
}

// play sends a script and waits until the speaker has closed the connection,
// which it must, for the attacker has closed its half.
func play(ctx context.Context, local string, script []byte) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	conn, err := d.DialContext(ctx, "tcp", "127.45.0.1:1790")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, _ = conn.Write(bytesOf(local, script)) // a reset while it writes is an answer
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // the same
	}
	_, err = io.Copy(io.Discard, conn)
	if err != nil && !strings.Contains(err.Error(), "reset by peer") && !strings.Contains(err.Error(), "broken pipe") {
		return fmt.Errorf("the speaker did not close: %w", err)
	}
	return nil
}

// wireMessage writes one message as it goes over the wire.
func wireMessage(typ byte, body []byte) []byte {
	out := binary.BigEndian.AppendUint16(slices.Repeat([]byte{0xff}, 16), uint16(19+len(body)))
	return append(append(out, typ), body...)
}

// bytesOf writes a script as it goes over the wire.
func bytesOf(local string, script []byte) []byte {
	var out []byte
	message := func(typ byte, body []byte) {
		out = append(out, wireMessage(typ, body)...)
	}
	if len(script) == 0 {
		return nil
	}
	if script[0]%3 > 0 {
		caps := []byte{1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4, 0, 0, 0xfc, 0}
		if script[0]&0x40 != 0 {
			caps = caps[:12]
		}
		open := append([]byte{4, 0xfc, 0, 0, 90}, net.ParseIP(local).To4()...)
		message(1, append(append(open, byte(len(caps)+2), 2, byte(len(caps))), caps...))
	}
	if script[0]%3 > 1 {
		message(4, nil)
	}
	for rest := script[1:]; len(rest) >= 2; {
		typ, n := rest[0], min(int(rest[1]), len(rest)-2)
		if body := rest[2 : 2+n]; typ >= 0xf0 {
			out = append(out, body...)
		} else {
			message(typ, body)
		}
		rest = rest[2+n:]
	}
	return out
}
