package dataplane

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"onlink/nft"
)

const (
	// keepEvery is the interval of checks of the host's settings, for those whose
	// changes the kernel does not report (fib_multipath_hash_policy, say), and of the
	// chains. Forwarding it reports: it is checked keepSoon later, so that many
	// changes cost one check, and a fight about a setting one a second.
	keepEvery = 5 * time.Second
	keepSoon  = time.Second
	// Chains are read again no sooner than this, and for at most one part in
	// chainsShare of the time.
	chainsEvery = 4 * time.Second
	chainsShare = 100
	// A setting that is turned off so often within resetsTime is contended, which
	// is a problem for the operator.
	resetsMany = 3
	resetsTime = time.Minute
)

// Host keeps the state of the host's network that the agent relies on and other
// programs change: settings, which it sets again, and chains that drop forwarded
// packets, which it names.
type Host struct {
	log       *slog.Logger
	pools     func() []netip.Prefix
	uplinks   func() []string
	renewed   func() <-chan struct{}
	loose     bool
	set       func(setting) (was string, err error)
	strict    func(device string) bool
	obstacles func([]netip.Prefix) ([]nft.Obstacle, error)

	resets   map[string][]time.Time // of settings, within resetsTime
	chainsAt time.Time              // when to read the chains again
	chains   []string

	mu      sync.Mutex // guards all below
	faults  []string
	changed map[string]time.Time // settings that another program changed, and when they were set again
}

// HostConfig is the configuration of a Host. Its functions are called by its
// goroutine.
type HostConfig struct {
	Log     *slog.Logger
	Pools   func() []netip.Prefix
	Uplinks func() []string // devices that packets from and to other nodes go through
	Loose   bool            // see [Plane.Loose]
	// Renewed returns a channel that is closed when Uplinks may return others, or a
	// setting of a device was changed: see [onlink/fib/underlay.Watcher.Renewed].
	Renewed func() <-chan struct{}
}

// NewHost returns a Host; nothing is done before Run.
func NewHost(c HostConfig) *Host {
	return &Host{
		log: c.Log, pools: c.Pools, uplinks: c.Uplinks, renewed: c.Renewed, loose: c.Loose,
		set: set, strict: strictReversePath, obstacles: new(ruleset).obstacles, resets: map[string][]time.Time{}, changed: map[string]time.Time{},
	}
}

// Families reports which families the pools have.
func Families(pools []netip.Prefix) (v4, v6 bool) {
	for _, p := range pools {
		v4, v6 = v4 || p.Addr().Is4(), v6 || p.Addr().Is6()
	}
	return v4, v6
}

// Run checks until ctx ends.
func (h *Host) Run(ctx context.Context) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		renewed := h.renewed()
		h.look(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			continue
		case <-renewed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(keepSoon):
		}
	}
}

// look repairs the settings and records the faults that it cannot repair.
func (h *Host) look(now time.Time) {
	v4, v6 := Families(h.pools())
	uplinks := h.uplinks()
	var faults []string
	for _, s := range slices.Concat(forwarding(v4, v6, uplinks), multipathHash) {
		if text := h.keep(s, now); text != "" {
			faults = append(faults, text)
		}
	}
	for _, dev := range uplinks {
		if h.loose && h.strict(dev) {
			faults = append(faults, fmt.Sprintf("rp_filter is strict (1) on %s: answers to this node's own packets to pods of other racks are dropped; set net.ipv4.conf.%s.rp_filter=2", dev, dev))
		}
	}
	h.readChains(now)
	faults = append(faults, h.chains...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = faults
}

// keep sets one value again that another program has changed, and returns the
// problem with it; "": none.
func (h *Host) keep(s setting, now time.Time) string {
	name := dotted(s.name)
	was, err := h.set(s)
	if err != nil {
		return err.Error()
	}
	if _, kept := h.resets[name]; was != s.value && !kept {
		// A node that has just started, or a new device: no program is at odds with us.
		h.log.Info("host setting set", "sysctl", name, "was", was, "value", s.value)
	} else if was != s.value {
		h.log.Warn("host setting was changed, setting it again", "sysctl", name, "was", was, "value", s.value)
		h.resets[name] = append(h.resets[name], now)
		h.mu.Lock()
		h.changed[name] = now
		h.mu.Unlock()
	}
	h.resets[name] = slices.DeleteFunc(h.resets[name], func(at time.Time) bool { return now.Sub(at) > resetsTime })
	if n := len(h.resets[name]); n >= resetsMany {
		return fmt.Sprintf("%s was changed from %s %d times within a minute, and packets are lost each time until it is set again; find the program that changes it (sysctl.d, a firewall, another network program) and set it to %s there", name, s.value, n, s.value)
	}
	return ""
}

// readChains searches for chains that drop packets between pods.
func (h *Host) readChains(now time.Time) {
	if now.Before(h.chainsAt) {
		return
	}
	began := time.Now()
	found, err := h.obstacles(h.pools())
	h.chainsAt = now.Add(max(chainsEvery, chainsShare*time.Since(began)))
	if err != nil {
		h.chains = []string{fmt.Sprintf("failed to read the chains of the hook forward: %v", err)}
		return
	}
	h.chains = nil
	for _, o := range found {
		h.chains = append(h.chains, fmt.Sprintf("forwarding: %s; let them through: %s", o, o.Fix()))
	}
}

// Problems returns the obstacles for packets, one line each.
func (h *Host) Problems() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.faults)
}

// dotted is a setting's name as sysctl(8) writes it.
func dotted(name string) string { return strings.ReplaceAll(name, "/", ".") }
