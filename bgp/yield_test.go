package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// TestYield: of two speakers that may both dial, the one that yields does not dial
// after the loss of a session; and both dial at their start, so that the order of
// the starts does not matter.
func TestYield(t *testing.T) {
	needsPatches(t)
	n := startNodes(t, testConfig(t, "127.39.0.1"), testConfig(t, "127.39.0.2"))
	low, high := n[0], n[1]
	toHigh, toLow := from(to("127.39.0.2", IBGP), "127.39.0.1"), from(to("127.39.0.1", IBGP), "127.39.0.2")
	toLow.Yield, toLow.ConnectRetry = true, 30*time.Second // never as late as a busy machine
	high.setPeers([]Peer{toLow})
	low.setPeers([]Peer{toHigh})
	low.waitUp(high.addr)
	for range 3 {
		was := low.peer(high.addr)
		if err := low.Reset(t.Context(), high.addr, "test"); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() string {
			if is := low.peer(high.addr); is.State != established || is.Flaps == was.Flaps {
				return fmt.Sprintf("not up again: %+v", is)
			}
			return ""
		})
		// The kernel's table: the end that dialled has a port of its own.
		if !hasConnection(t, high.addr, testPort, low.addr) {
			t.Error("the one that yields dialled after a loss")
		}
	}

	// When the other one is passive, the yielding one must dial.
	toHigh.Passive, toLow.ConnectRetry = true, 2*time.Second
	high.setPeers([]Peer{toLow})
	low.setPeers([]Peer{toHigh})
	eventually(t, func() string {
		if !hasConnection(t, low.addr, testPort, high.addr) {
			return "the one that yields did not dial"
		}
		return ""
	})
	low.waitUp(high.addr)
}

// hasConnection looks for an established connection from a local address and
// port to a remote address (proc_net_tcp, Linux).
func hasConnection(t *testing.T, local netip.Addr, port uint16, remote netip.Addr) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	hex := func(a netip.Addr) string {
		b := a.As4()
		return fmt.Sprintf("%02X%02X%02X%02X", b[3], b[2], b[1], b[0])
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 3 && f[3] == "01" && f[1] == fmt.Sprintf("%s:%04X", hex(local), port) && strings.HasPrefix(f[2], hex(remote)+":") {
			return true
		}
	}
	return false
}
