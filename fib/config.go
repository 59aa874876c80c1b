package fib

import (
	"log/slog"
	"net/netip"
)

// defaultMetric6 is the metric that the kernel gives an IPv6 route of metric 0.
const defaultMetric6 = 1024

// Config sets the table, the metric and the form of a Table's routes. The zero
// value is valid.
type Config struct {
	Table   uint32     // routing table; 0 means main (254)
	Metric  uint32     // route metric; 0 means the kernel's default: IPv4 0, IPv6 1024
	Source4 netip.Addr // preferred source address (RTA_PREFSRC) of IPv4 unicast routes; zero: the kernel chooses
	Source6 netip.Addr // the same for IPv6
	// NoNexthopObjects makes the Table use plain gateways although the kernel
	// has nexthop objects.
	NoNexthopObjects bool
	Log              *slog.Logger // nil: nothing is logged
}

// key returns the kernel's key of p.
func (c *Config) key(p netip.Prefix) routeKey {
	k := routeKey{prefix: p, metric: c.Metric}
	if k.metric == 0 && p.Addr().Is6() {
		k.metric = defaultMetric6
	}
	return k
}
