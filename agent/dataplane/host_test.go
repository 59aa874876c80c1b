package dataplane

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"onlink/nft"
)

// newHost returns a host whose settings are in a map: what somebody else sets
// there, the host finds.
func newHost(settings map[string]string, pools ...string) *Host {
	h := NewHost(HostConfig{
		Log: slog.New(slog.DiscardHandler), Uplinks: func() []string { return []string{"nosuch0"} },
		Pools: func() (out []netip.Prefix) {
			for _, p := range pools {
				out = append(out, netip.MustParsePrefix(p))
			}
			return out
		},
	})
	h.set = func(s setting) (string, error) {
		was := settings[s.name]
		if was == "read-only" {
			return was, errors.New("set sysctl " + s.name + ": read-only file system")
		}
		settings[s.name] = s.value
		return was, nil
	}
	h.strict = func(string) bool { return settings["rp_filter"] == "1" }
	h.obstacles = func([]netip.Prefix) ([]nft.Obstacle, error) { return nil, nil }
	return h
}

// TestHostSets: the settings of the pools' families are set again, and somebody
// who fights about one is a problem.
func TestHostSets(t *testing.T) {
	settings := map[string]string{}
	h := newHost(settings, "10.244.0.0/16")
	now := time.Unix(0, 0)
	h.look(now)
	if settings["net/ipv4/ip_forward"] != "1" || settings["net/ipv4/conf/nosuch0/forwarding"] != "1" || settings["net/ipv4/fib_multipath_hash_policy"] != "1" {
		t.Errorf("%v", settings)
	}
	if v, set := settings["net/ipv6/conf/all/forwarding"]; set {
		t.Errorf("a node without IPv6 pods forwards IPv6: %q", v)
	}
	if got := h.Problems(); len(got) != 0 {
		t.Errorf("problems %q", got)
	}
	for range resetsMany {
		now = now.Add(keepEvery)
		settings["net/ipv4/ip_forward"] = "0"
		h.look(now)
	}
	got := h.Problems()
	if len(got) != 1 || !strings.HasPrefix(got[0], "net.ipv4.ip_forward was changed from 1 ") {
		t.Errorf("problems %q", got)
	}
	if got := h.Recent(false); len(got) != 0 {
		t.Errorf("changed lately: %q, and it was in 1970", got)
	}
	settings["net/ipv4/ip_forward"] = "0"
	h.look(time.Now())
	if got := h.Recent(false); len(got) != 1 || !strings.HasPrefix(got[0], "net.ipv4.ip_forward was changed by another program, and set again 0s ago") || len(h.Recent(true)) != 0 {
		t.Errorf("changed lately: %q and %q", got, h.Recent(true))
	}
	h.look(now.Add(2 * resetsTime))
	if got := h.Problems(); len(got) != 0 {
		t.Errorf("problems %q after a quiet time", got)
	}
}

// TestHostCannotSet: a setting that cannot be made is a problem.
func TestHostCannotSet(t *testing.T) {
	h := newHost(map[string]string{"net/ipv6/conf/all/forwarding": "read-only"}, "10.244.0.0/16", "fd44::/48")
	h.look(time.Unix(0, 0))
	if got := h.Problems(); len(got) != 1 || got[0] != "set sysctl net/ipv6/conf/all/forwarding: read-only file system" {
		t.Errorf("problems %q", got)
	}
	h = newHost(map[string]string{"net/ipv4/fib_multipath_hash_policy": "read-only"}, "10.244.0.0/16")
	h.look(time.Unix(0, 0))
	if got := h.Problems(); len(got) != 1 || got[0] != "set sysctl net/ipv4/fib_multipath_hash_policy: read-only file system" {
		t.Errorf("problems %q", got)
	}
}

// TestHostStrict: rp_filter must not be strict where answers take another way.
func TestHostStrict(t *testing.T) {
	h := newHost(map[string]string{"rp_filter": "1"}, "10.244.0.0/16")
	h.look(time.Unix(0, 0))
	if got := h.Problems(); len(got) != 0 {
		t.Errorf("without tunnels: %q", got)
	}
	h.loose = true
	h.look(time.Unix(0, 0))
	if got := h.Problems(); len(got) != 1 || !strings.HasPrefix(got[0], "rp_filter is strict (1) on nosuch0") {
		t.Errorf("with tunnels: %q", got)
	}
}

// TestHostChains: chains are read rarely, and what they drop is named with the
// remedy; that they cannot be read is said, too.
func TestHostChains(t *testing.T) {
	h := newHost(map[string]string{}, "10.244.0.0/16")
	reads := 0
	h.obstacles = func(pools []netip.Prefix) ([]nft.Obstacle, error) {
		reads++
		return []nft.Obstacle{{Pool: pools[0]}}, nil
	}
	now := time.Unix(0, 0)
	h.look(now)
	h.look(now.Add(time.Second))
	if reads != 1 {
		t.Errorf("%d reads within a second", reads)
	}
	got := h.Problems()
	if len(got) != 1 || !strings.HasPrefix(got[0], "forwarding: ") || !strings.Contains(got[0], "; let them through: ") {
		t.Errorf("problems %q", got)
	}
	h.obstacles = func([]netip.Prefix) ([]nft.Obstacle, error) { return nil, errors.New("no memory") }
	h.look(now.Add(time.Minute))
	if got := h.Problems(); len(got) != 1 || got[0] != "failed to read the chains of the hook forward: no memory" {
		t.Errorf("problems %q", got)
	}
}

// TestHostRun: the settings are checked soon after a report of the kernel, a few
// at once, and now and then without one.
func TestHostRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(map[string]string{}, "10.244.0.0/16")
		report := make(chan struct{})
		h.renewed = func() <-chan struct{} { return report }
		var looks atomic.Int32
		h.obstacles = func([]netip.Prefix) ([]nft.Obstacle, error) { return nil, nil }
		h.uplinks = func() []string {
			looks.Add(1)
			return nil
		}
		ended := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() { ended <- h.Run(ctx) }()
		want := func(n int32, when string) {
			t.Helper()
			synctest.Wait()
			if got := looks.Swap(0); got != n {
				t.Errorf("%s: %d checks, want %d", when, got, n)
			}
		}
		want(1, "at the start")
		time.Sleep(keepEvery)
		want(1, "without a report")
		close(report) // and stays so: reports without end
		time.Sleep(keepSoon / 2)
		want(0, "right after a report")
		time.Sleep(keepSoon)
		want(1, "after a report")
		time.Sleep(3 * keepSoon)
		want(3, "in a fight")
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
