package bgp

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onlink/bgp/session"
)

// logText keeps the log of a speaker.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), part)
}

// TestPrefixLimit: a peer near its limit causes a warning; the session to one above
// it is held down and tried again by itself.
func TestPrefixLimit(t *testing.T) {
	var log logText
	c := testConfig(t, "127.35.0.1")
	c.LimitRetry, c.Log = time.Second, slog.New(slog.NewTextHandler(&log, nil))
	n := startNodes(t, c, testConfig(t, "127.35.0.2"))
	p := from(to("127.35.0.2", IBGP), "127.35.0.1")
	p.Import.MaxPrefixes = 4
	n[0].setPeers([]Peer{p})
	n[1].setPeers([]Peer{from(to("127.35.0.1", IBGP), "127.35.0.2")})
	n[0].waitUp(n[1].addr)
	since := n[0].peer(n[1].addr).Since

	list := []string{"10.244.1.0/26", "10.244.2.0/26", "10.244.3.0/26", "10.244.4.0/26"}
	n[1].originate(list...)
	eventually(t, func() string {
		if !log.has("prefix limit reached") {
			return "no warning at 4 of 4 prefixes"
		}
		return ""
	})
	if got := n[0].peer(n[1].addr); got.State != established || !got.Since.Equal(since) {
		t.Fatalf("the session did not survive the warning: %+v", got)
	}

	n[1].originate(append(list, "10.244.5.0/26")...)
	eventually(t, func() string {
		if got := n[0].peer(n[1].addr); got.Flaps == 0 || !log.has("peer exceeded its prefix limit") {
			return fmt.Sprintf("the fifth prefix was let through: %+v", got)
		}
		return ""
	})
	n[1].originate(list[:2]...)
	n[0].waitUp(n[1].addr)
	n[0].waitRoutes("10.244.1.0/26 via 127.35.0.2", "10.244.2.0/26 via 127.35.0.2")
}

// ttls listens on the loopback device and returns a function that returns the
// TTLs of the packets from one address to another so far.
func ttls(t *testing.T) func(from, to netip.Addr) []uint8 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_IP)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[[2]netip.Addr][]uint8{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 128)
		for t.Context().Err() == nil {
			n, err := unix.Read(fd, packet)
			if err != nil || n < 40 || packet[9] != unix.IPPROTO_TCP {
				continue // a timeout, to look at the context, or something else
			}
			key := [2]netip.Addr{netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))}
			mu.Lock()
			if !slices.Contains(seen[key], packet[8]) {
				seen[key] = append(seen[key], packet[8])
			}
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		<-done
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	return func(from, to netip.Addr) []uint8 {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen[[2]netip.Addr{from, to}])
	}
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// TestTTL: packets to a peer carry TTL 1 to a neighbour of another AS, the number
// of hops with multihop, and 255 with TTL security; with that, packets that arrive
// with less are dropped (RFC 5082).
func TestTTL(t *testing.T) {
	sent := ttls(t)
	configs := []Config{testConfig(t, "127.36.0.1")}
	for i, at := range []string{"127.36.0.2", "127.36.0.3", "127.36.0.4"} {
		c := testConfig(t, at)
		c.ASN = uint32(65001 + i)
		configs = append(configs, c)
	}
	n := startNodes(t, configs...)
	x := n[0]
	session := func(local netip.Addr, asn uint32, change func(*Session)) Session {
		s := Session{Role: EBGP, ASN: asn, Options: session.Options{LocalAddress: local, ConnectRetry: 2 * time.Second}}
		change(&s)
		return s
	}
	kinds := []func(*Session){func(*Session) {}, func(s *Session) { s.Multihop = 7 }, func(s *Session) { s.TTLSecurity = 1 }}
	var peers []Peer
	for i, kind := range kinds {
		o := n[i+1]
		peers = append(peers, Peer{Name: o.addr.String(), Address: o.addr, Port: testPort, Session: session(x.addr, o.cfg.ASN, kind)})
		if i < 2 {
			o.setPeers([]Peer{{Name: "x", Address: x.addr, Port: testPort, Session: session(o.addr, x.cfg.ASN, kind)}})
		}
	}
	x.setPeers(peers)
	x.waitUp(n[1].addr, n[2].addr)
	// The listener, which serves all peers, answers with 255.
	for i, want := range []uint8{1, 7} {
		got := sent(x.addr, n[i+1].addr)
		if !slices.Contains(got, want) || slices.ContainsFunc(got, func(ttl uint8) bool { return ttl != want && ttl != 255 }) {
			t.Errorf("packets to %s had TTLs %v, want %d", n[i+1].addr, got, want)
		}
	}

	// A neighbour without TTL security dials with TTL 1, and its packets are
	// dropped; with it, the session comes up.
	plain := Peer{Name: "x", Address: x.addr, Port: testPort, Session: session(n[3].addr, x.cfg.ASN, kinds[0])}
	n[3].setPeers([]Peer{plain})
	eventually(t, func() string {
		if got := sent(n[3].addr, x.addr); !slices.Contains(got, 1) {
			return fmt.Sprintf("the neighbour has not dialled: TTLs %v", got)
		}
		return ""
	})
	if got := x.peer(n[3].addr); got.State == established {
		t.Errorf("a session with TTL 1 came up: %+v", got)
	}
	plain.TTLSecurity = 1
	n[3].setPeers([]Peer{plain})
	x.setPeers(peers[:2]) // half-open since the neighbour's OPEN came with TTL 1
	x.setPeers(peers)
	x.waitUp(n[3].addr)
	if got := sent(x.addr, n[3].addr); !slices.Contains(got, 255) {
		t.Errorf("packets to %s had TTL %v, want 255", n[3].addr, got)
	}
}
