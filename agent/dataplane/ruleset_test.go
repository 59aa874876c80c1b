package dataplane

import (
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"onlink/nft"
)

// TestRuleset: the chains of nftables are read again after a change of the
// ruleset or of the pools, and once in a while without one.
func TestRuleset(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace (are we root?): %v", err)
	}
	if nft.Supported() != nil {
		t.Skip("needs kernel feature: nftables")
	}
	var r ruleset
	pools := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	kept := func(when string, want int) {
		t.Helper()
		if _, err := r.obstacles(pools); err != nil || r.kept != want {
			t.Errorf("%s: kept %d times, want %d: %v", when, r.kept, want, err)
		}
	}
	kept("at first", 0)
	kept("at rest", 1)
	if err := nft.New(nil).Apply(nft.State{MasqueradeFrom: pools}); err != nil {
		t.Fatal(err)
	}
	kept("after a transaction", 0)
	kept("at rest again", 1)
	pools = append(pools, netip.MustParsePrefix("10.245.0.0/16"))
	kept("with another pool", 0)
	for i := range rereadAfter {
		kept("at rest for long", i+1)
	}
	kept("in the end", 0)
}
