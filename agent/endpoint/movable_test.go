package endpoint

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// free returns an address of loopback without a listener.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return netip.MustParseAddrPort(lis.Addr().String())
}

// get returns the body at an address, "" where nothing listens.
func get(t *testing.T, at netip.AddrPort) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	rep, err := client.Get("http://" + at.String())
	if err != nil {
		return ""
	}
	defer rep.Body.Close()
	text, err := io.ReadAll(rep.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMovable: the endpoint is at the address that was set last, from before Run on, and
// nowhere else; one that cannot be opened leaves the one before.
func TestMovable(t *testing.T) {
	here := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	m := NewMovable("api.glass", Bounds{All: 4, Each: 4}, slog.New(slog.DiscardHandler), here)
	a, b, c := free(t), free(t), free(t)
	set := func(at netip.AddrPort) {
		t.Helper()
		if err := m.Set(at); err != nil {
			t.Fatal(err)
		}
	}
	only := func(at netip.AddrPort) {
		t.Helper()
		for _, one := range []netip.AddrPort{a, b, c} {
			if got := get(t, one); (got == "here") != (one == at) {
				t.Errorf("at %s: %q, the endpoint is at %s", one, got, at)
			}
		}
	}
	set(a)
	set(b) // Run finds the last one
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	only(b)
	set(b)
	only(b)
	set(c)
	only(c)

	busy, err := net.Listen("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Set(a); err == nil || !strings.HasPrefix(err.Error(), "api.glass: ") || !strings.HasSuffix(err.Error(), "set another address, or off") {
		t.Errorf("a busy address: %v", err)
	}
	busy.Close()
	only(c)
	// The same port on all addresses is free only when the socket before is closed.
	set(netip.AddrPortFrom(netip.IPv4Unspecified(), c.Port()))
	only(c)
	set(netip.AddrPort{})
	only(netip.AddrPort{})
	set(a)
	only(a)

	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	only(netip.AddrPort{})
	if err := (*Movable)(nil).Set(a); err != nil {
		t.Errorf("set of none: %v", err)
	}
}
