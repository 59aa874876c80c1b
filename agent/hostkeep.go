package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"onlink/agent/config"
	"onlink/nft"
)

const (
	// keepEvery is how often the host's settings are looked at, and at most
	// how long one that somebody turns off cuts pods off.
	keepEvery = 2 * time.Second
	// Chains are read again no sooner than this, and for at most one part in
	// chainsShare of the time.
	chainsEvery = 4 * time.Second
	chainsShare = 100
	// A setting that is turned off so often within resetsTime is fought about:
	// the operator must know.
	resetsMany = 3
	resetsTime = time.Minute
)

// hostFault is something in the host's network that keeps packets of pods from
// where they go.
type hostFault struct {
	text   string
	v4, v6 bool // whose packets it ends; neither: it is worth knowing only
}

// hostKeeper looks after what the agent relies on in the host's network and
// what others change: settings, which it sets again, and chains that drop what
// is forwarded, which it names.
type hostKeeper struct {
	log       *slog.Logger
	pools     func() []config.Pool
	uplinks   func() []string
	loose     bool // answers come in another way than they went out: rp_filter must not be strict
	obstacles func([]netip.Prefix) ([]nft.Obstacle, error)

	resets   map[string][]time.Time // of settings, within resetsTime
	chainsAt time.Time              // when to read the chains again
	chains   []hostFault

	mu     sync.Mutex // guards faults
	faults []hostFault
}

// newHostKeeper makes the keeper of this agent.
func (a *agent) newHostKeeper() *hostKeeper {
	return &hostKeeper{
		log: a.log.With("part", "host"), pools: a.pools, uplinks: a.uplinks, loose: a.learn.wantedLocal().IsValid(),
		obstacles: func(pools []netip.Prefix) ([]nft.Obstacle, error) {
			list, err := nft.Obstacles(pools)
			if err != nil && nft.Supported() != nil {
				list, err = nil, nil // this kernel has no such tables
			}
			if err != nil {
				return nil, err
			}
			legacy, err := nft.LegacyObstacles(pools)
			return append(list, legacy...), err
		},
		resets: map[string][]time.Time{},
	}
}

// uplinks names the devices that packets from and to other nodes go through:
// those with the node's addresses, and those that next hops and peers are
// reached over.
func (a *agent) uplinks() []string {
	var out []string
	if a.learn != nil {
		if used := a.learn.devices.Load(); used != nil {
			out = append(out, *used...)
		}
	}
	for _, o := range a.watch.Addresses() {
		if (o.Addr == a.id.Address || o.Addr == a.id.Address6) && o.Kind != "loopback" {
			out = append(out, o.Dev)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// families reports which families the pools have.
func families(pools []config.Pool) (v4, v6 bool) {
	for _, p := range pools {
		v4, v6 = v4 || p.CIDR.Addr().Is4(), v6 || p.CIDR.Addr().Is6()
	}
	return v4, v6
}

// Run looks until ctx ends.
func (k *hostKeeper) Run(ctx context.Context) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		k.look(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look sets right what it can and notes what it cannot.
func (k *hostKeeper) look(now time.Time) {
	v4, v6 := families(k.pools())
	var faults []hostFault
	for _, s := range slices.Concat(forwarding(v4, v6, k.uplinks()), multipathHash) {
		faults = append(faults, k.keep(s, now)...)
	}
	for _, dev := range k.uplinks() {
		if k.loose && strictReversePath(dev) {
			faults = append(faults, hostFault{text: fmt.Sprintf("rp_filter is strict (1) on %s: answers to what this node itself sends to pods of other racks are dropped; set net.ipv4.conf.%s.rp_filter=2", dev, dev)})
		}
	}
	k.readChains(now)
	faults = append(faults, k.chains...)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.faults = faults
}

// keep sets one value again that somebody has changed.
func (k *hostKeeper) keep(s setting, now time.Time) []hostFault {
	name := strings.ReplaceAll(s.name, "/", ".")
	hash := strings.HasSuffix(s.name, "_hash_policy")
	fault := hostFault{v4: !hash && strings.HasPrefix(s.name, "net/ipv4"), v6: !hash && strings.HasPrefix(s.name, "net/ipv6")}
	was, err := set(s)
	if err != nil {
		fault.text = err.Error()
		return []hostFault{fault}
	}
	if was != s.value {
		k.log.Warn("host setting was changed, set again", "sysctl", name, "was", was, "value", s.value)
		k.resets[name] = append(k.resets[name], now)
	}
	k.resets[name] = slices.DeleteFunc(k.resets[name], func(at time.Time) bool { return now.Sub(at) > resetsTime })
	if n := len(k.resets[name]); n >= resetsMany {
		return []hostFault{{text: fmt.Sprintf("%s was set to something else than %s %d times within a minute, and packets are lost each time until it is set again; find what does that (sysctl.d, a firewall, another network program) and set it to %s there", name, s.value, n, s.value)}}
	}
	return nil
}

// readChains looks for chains that drop what pods send each other, when
// something has changed.
func (k *hostKeeper) readChains(now time.Time) {
	if now.Before(k.chainsAt) {
		return
	}
	var pools []netip.Prefix
	for _, p := range k.pools() {
		pools = append(pools, p.CIDR)
	}
	began := time.Now()
	found, err := k.obstacles(pools)
	k.chainsAt = now.Add(max(chainsEvery, chainsShare*time.Since(began)))
	if err != nil {
		k.chains = []hostFault{{text: fmt.Sprintf("chains of the hook forward cannot be read: %v", err)}}
		return
	}
	k.chains = nil
	for _, o := range found {
		k.chains = append(k.chains, hostFault{
			text: fmt.Sprintf("forwarding: %s; let them through: %s", o, o.Fix()),
			v4:   o.Pool.Addr().Is4(), v6: o.Pool.Addr().Is6(),
		})
	}
}

// problems is what `status` says.
func (k *hostKeeper) problems() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, f := range k.faults {
		out = append(out, f.text)
	}
	return out
}

// against returns why packets for an address of a pool do not get through this
// node; "": nothing of the host's is in the way.
func (k *hostKeeper) against(addr netip.Addr) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range k.faults {
		if addr.Is4() && f.v4 || addr.Is6() && f.v6 {
			return f.text
		}
	}
	return ""
}
