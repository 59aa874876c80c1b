package nft

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// listenTCP answers every connection to an address of the host with the address
// that it comes from, until the test ends.
func listenTCP(t *testing.T, h *host, address string) {
	t.Helper()
	var lis net.Listener
	h.do(func() (err error) {
		lis, err = net.Listen("tcp", address)
		return err
	})
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(c.RemoteAddr().String())) // whoever asks sees what is missing
			c.Close()
		}
	}()
}

// answers reports whether the host gets an answer from an address.
func answers(t *testing.T, h *host, address string, within time.Duration) bool {
	t.Helper()
	err := h.try(func() error {
		c, err := net.DialTimeout("tcp", address, within)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		return err
	})
	var timeout net.Error
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		t.Fatalf("connect to %s: %v", address, err)
	}
	return err == nil
}

// TestRegistryIsNotForPods: no pod reaches the registry, neither on its own node
// nor, masqueraded to its node's address, on another; other ports of the same
// machines it does reach, and so does the node.
func TestRegistryIsNotForPods(t *testing.T) {
	r := newRack(t)
	const far, near, far6 = "192.0.2.9:4790", "192.0.2.1:4790", "[2001:db8::9]:4790"
	for _, at := range []string{far, "192.0.2.9:4791", far6, "[2001:db8::9]:4791"} {
		listenTCP(t, r.server, at)
	}
	listenTCP(t, r.node, near)
	listenTCP(t, r.node, "192.0.2.1:4791")
	pools := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")}
	state := State{Pools: pools, MasqueradeFrom: pools}
	r.apply(state)
	for _, at := range []string{far, near, far6} { // the test can tell
		if !answers(t, r.pod, at, patience) {
			t.Fatalf("the pod does not reach %s without the rule", at)
		}
	}
	for _, served := range [][]netip.AddrPort{
		{netip.MustParseAddrPort(far), netip.MustParseAddrPort(near), netip.MustParseAddrPort(far6)},
		{netip.MustParseAddrPort(far), netip.MustParseAddrPort("[::]:4790"), netip.MustParseAddrPort(far6)},
		{netip.MustParseAddrPort(far), netip.MustParseAddrPort("0.0.0.0:4790"), netip.MustParseAddrPort(far6)},
	} {
		state.Registry = served
		r.apply(state)
		for _, at := range []string{far, near, far6} {
			if answers(t, r.pod, at, time.Second) {
				t.Errorf("registry %v: the pod reaches %s", served, at)
			}
		}
		for _, at := range []string{"192.0.2.9:4791", "192.0.2.1:4791", "[2001:db8::9]:4791"} {
			if !answers(t, r.pod, at, patience) {
				t.Errorf("registry %v: the pod does not reach %s", served, at)
			}
		}
		for _, at := range []string{far, near, far6} {
			if !answers(t, r.node, at, patience) {
				t.Errorf("registry %v: the node does not reach %s", served, at)
			}
		}
	}
}
