package bgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"onlink/bgp/policy"
	"onlink/bgp/session"
)

// Defaults of the fields of [Config], [Peer] and [Dynamic] left zero.
const (
	DefaultHoldTime     = session.DefaultHoldTime
	DefaultKeepalive    = 30 * time.Second
	DefaultConnectRetry = session.DefaultConnectRetry
	DefaultRestartTime  = 120 * time.Second
	DefaultDeferral     = 15 * time.Second
	DefaultLimitRetry   = 5 * time.Minute
	// DefaultSettle is how long Synced waits for peers without a session: one
	// dial, one retry and the exchange of OPENs.
	DefaultSettle = 8 * time.Second
)

// Config is the configuration of a [Speaker] for its node. It does not change
// while the speaker lives.
type Config struct {
	// ASN is the local autonomous system number, 1 to 4294967294.
	ASN uint32
	// RouterID is the BGP identifier, an IPv4 address unique in the AS.
	RouterID netip.Addr
	// NodeAddress and NodeAddress6 are the next hops of originated IPv4 and
	// IPv6 prefixes; at least one is needed. A family without one is not
	// offered to a peer unless Session.Families lists it.
	NodeAddress  netip.Addr
	NodeAddress6 netip.Addr
	// ListenAddresses are the addresses to accept sessions on; empty means
	// all of IPv4 and IPv6.
	ListenAddresses []netip.Addr
	// ListenPort is the TCP port to accept sessions on; 0 means do not listen.
	ListenPort uint16
	// ClusterID is the reflector's cluster (RFC 4456 section 7), an IPv4
	// address; default RouterID.
	ClusterID netip.Addr
	// Pools are the ranges of the pods: every block inside has one node as owner.
	Pools []policy.Pool
	// PodGateways are the addresses that pods have as their gateway: a route
	// with such a next hop is refused.
	PodGateways []netip.Addr
	// Restarting says that the kernel kept forwarding with the routes of the
	// previous run: sessions are opened with the Restart State and Forwarding
	// State bits (RFC 4724 section 3). When it is wrong, peers keep routes that
	// forward nothing.
	Restarting bool
	// RestartTime is how long peers keep our routes while we are down;
	// default 120 s, at most 4095 s.
	RestartTime time.Duration
	// Deferral bounds, after a restart, the time a reflector waits for its
	// peers' End-of-RIB before it announces (RFC 4724 section 4.1); default
	// 15 s. A node that only originates does not need to wait.
	Deferral time.Duration
	// Settle is how long Synced waits for configured peers without a session;
	// default 8 s.
	Settle time.Duration
	// LimitRetry is how long the session to a peer that exceeded its prefix
	// limit is kept down before it is tried again; default 5 min.
	LimitRetry time.Duration
	// AllowUnpatched permits sessions with an engine that is built without
	// onlink's patches: a message of a peer can end it, see [Patched].
	AllowUnpatched bool
	// Log receives the speaker's events; nil means slog.Default.
	Log *slog.Logger
}

// Validate reports the first fault of c as an [ErrConfig] that names the
// field.
func (c *Config) Validate() error {
	switch {
	case c.ASN == 0 || c.ASN == 4294967295 || c.ASN == 23456:
		return fmt.Errorf("%w: ASN %d is reserved: use your own or a private one (64512-65534)", ErrConfig, c.ASN)
	case !c.RouterID.Is4() || c.RouterID.IsUnspecified():
		return fmt.Errorf("%w: RouterID %q is not an IPv4 address other than 0.0.0.0", ErrConfig, c.RouterID)
	case c.ClusterID.IsValid() && (!c.ClusterID.Is4() || c.ClusterID.IsUnspecified()):
		return fmt.Errorf("%w: ClusterID %q is not an IPv4 address other than 0.0.0.0", ErrConfig, c.ClusterID)
	case !c.NodeAddress.IsValid() && !c.NodeAddress6.IsValid():
		return fmt.Errorf("%w: NodeAddress is not set: give the node an address for the next hop of its prefixes", ErrConfig)
	case c.NodeAddress.IsValid() && !c.NodeAddress.Is4():
		return fmt.Errorf("%w: NodeAddress %q is not an IPv4 address", ErrConfig, c.NodeAddress)
	case c.NodeAddress6.IsValid() && (!c.NodeAddress6.Is6() || c.NodeAddress6.Is4In6() || c.NodeAddress6.Zone() != ""):
		return fmt.Errorf("%w: NodeAddress6 %q is not a plain IPv6 address", ErrConfig, c.NodeAddress6)
	case c.RestartTime < 0 || c.RestartTime > 4095*time.Second:
		return fmt.Errorf("%w: RestartTime %s is not within 0s to 4095s", ErrConfig, c.RestartTime)
	case c.Deferral < 0 || c.Deferral > time.Hour:
		return fmt.Errorf("%w: Deferral %s is not within 0s to 1h", ErrConfig, c.Deferral)
	}
	for _, p := range c.Pools {
		if err := invalid(p.Validate("pools")); err != nil {
			return err
		}
	}
	for _, a := range c.ListenAddresses {
		if !a.IsValid() {
			return fmt.Errorf("%w: ListenAddresses holds an empty address", ErrConfig)
		}
	}
	return nil
}

// withDefaults returns c with the zero fields filled in.
func (c Config) withDefaults() Config {
	c.RestartTime = orDefault(c.RestartTime, DefaultRestartTime)
	c.Deferral = orDefault(c.Deferral, DefaultDeferral)
	c.Settle = orDefault(c.Settle, DefaultSettle)
	c.LimitRetry = orDefault(c.LimitRetry, DefaultLimitRetry)
	if !c.ClusterID.IsValid() {
		c.ClusterID = c.RouterID
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// families returns the families of the node's addresses.
func (c *Config) families() []Family {
	var f []Family
	if c.NodeAddress.IsValid() {
		f = append(f, IPv4)
	}
	if c.NodeAddress6.IsValid() {
		f = append(f, IPv6)
	}
	return f
}

// ownAddresses returns the next hops of the node's announcements.
func (c *Config) ownAddresses() []netip.Addr {
	var list []netip.Addr
	for _, a := range []netip.Addr{c.NodeAddress, c.NodeAddress6} {
		if a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}

func orDefault(v, def time.Duration) time.Duration {
	if v == 0 {
		return def
	}
	return v
}

// validPrefix checks that p is a prefix with no host bits set.
func validPrefix(field string, p netip.Prefix) error {
	if text := policy.PrefixFault(p); text != "" {
		return fmt.Errorf("%w: %s: %s", ErrConfig, field, text)
	}
	return nil
}
