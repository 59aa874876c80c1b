package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

func testGuard() *guard {
	return newGuard(slog.New(slog.DiscardHandler), []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10::/48")})
}

// callFrom is the context of a call from an address, with a certificate.
func callFrom(addr string, cert *x509.Certificate) context.Context {
	p := &grpcpeer.Peer{Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))}
	if cert != nil {
		p.AuthInfo = credentials.TLSInfo{State: tls.ConnectionState{
			PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}},
		}}
	}
	return grpcpeer.NewContext(context.Background(), p)
}

// TestRegistryGuardPools: who is inside a pool is a pod, and is answered
// nothing at all.
func TestRegistryGuardPools(t *testing.T) {
	g := testGuard()
	called := 0
	ask := func(from string) error {
		return g.intercept(nil, calling{ctx: callFrom(from, nil)}, &grpc.StreamServerInfo{}, func(any, grpc.ServerStream) error {
			called++
			return nil
		})
	}
	for _, from := range []string{"10.244.3.9:40000", "[::ffff:10.244.3.9]:40000", "[fd00:10::7]:40000"} {
		if err := ask(from); status.Code(err) != codes.PermissionDenied || called != 0 {
			t.Errorf("from %s: %v after %d calls, want it denied", from, err, called)
		}
	}
	if err := ask("10.245.3.9:40000"); err != nil || called != 1 {
		t.Errorf("from outside: %v after %d calls", err, called)
	}
	g.setPools([]netip.Prefix{netip.MustParsePrefix("10.245.0.0/16")})
	if err := ask("10.245.3.9:40000"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("after the pools have changed: %v, want it denied", err)
	}
}

// calling is a stream without a connection.
type calling struct {
	grpc.ServerStream

	ctx context.Context
}

func (c calling) Context() context.Context { return c.ctx }

// TestRegistryGuardBinds: without TLS a caller acts for the node that it calls from.
func TestRegistryGuardBinds(t *testing.T) {
	by := ipam.Caller{Node: "worker", Instance: "i", Address: netip.MustParseAddr("192.0.2.1"), Address6: netip.MustParseAddr("2001:db8::1")}
	tests := []struct {
		name, from string
		by         ipam.Caller
		ok         bool
	}{
		{"its address", "192.0.2.1:1", by, true},
		{"its IPv6 address", "[2001:db8::1]:1", by, true},
		{"another address", "192.0.2.2:1", by, false},
		{"this machine", "127.0.0.1:1", by, true},
		{"no address in the call", "192.0.2.1:1", ipam.Caller{Node: "worker", Instance: "i"}, false},
		{"of a version before", "192.0.2.2:1", ipam.Caller{Node: "worker"}, true},
	}
	g := testGuard()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := g.bind(callFrom(tt.from, nil), onlinkv1.Registry_Claim_FullMethodName, tt.by, "")
			if tt.ok != (err == nil) {
				t.Fatalf("error %v, want success: %v", err, tt.ok)
			}
			if err != nil && (status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "worker") ||
				!errors.Is(errorFromWire("registry", err), ipam.ErrRefused)) {
				t.Errorf("error %v, want a denial that names the node and is a refusal", err)
			}
		})
	}
}

// TestRegistryGuardRate: an address may ask as often as a node needs; the others
// do not suffer from it.
func TestRegistryGuardRate(t *testing.T) {
	g := testGuard()
	now := time.Now()
	loud, quiet := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range callBurst {
		if err := g.admit(loud, now); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if err := g.admit(loud, now); status.Code(err) != codes.Unavailable {
		t.Errorf("one call more: %v, want it unavailable", err)
	}
	if err := g.admit(quiet, now); err != nil {
		t.Errorf("another address: %v", err)
	}
	if err := g.admit(loud, now.Add(time.Second)); err != nil {
		t.Errorf("a second later: %v", err)
	}
	if err := g.admit(quiet, now.Add(2*maxQuiet)); err != nil || len(g.callers) != 1 {
		t.Errorf("%v, %d addresses are remembered, want the one that asks", err, len(g.callers))
	}
}

// TestRegistryGuardConnections: connections of one address are bounded, and
// closed ones make room.
func TestRegistryGuardConnections(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	accepted := make(chan net.Conn, 2*maxConns)
	limited := testGuard().limit(lis)
	go func() {
		for {
			c, err := limited.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range maxConns {
		dial()
	}
	var first net.Conn
	for range maxConns {
		first = <-accepted
	}
	extra := dial()
	if err := extra.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := extra.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("one connection more: %v, want it closed", err)
	}
	first.Close()
	first.Close() // counts once
	dial()
	select {
	case <-accepted:
	case <-time.After(10 * time.Second):
		t.Fatal("no room after a connection was closed")
	}
}
