package cni

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// Config holds the parts and settings of a [Server].
type Config struct {
	IPAM   IPAM   // required
	Routes Routes // required

	// Version is the agent's; plugins of others are a note. Empty: none is.
	Version string
	// Senders receives the MAC address that each pod may send from. Nil: a pod may
	// send from any.
	Senders Senders
	// Sysctls are the extra sysctls that pods may have, as names with dots, with
	// * and ? as in path.Match, until SetSysctls. Nil: none.
	Sysctls []string
	// MTU returns the MTU of new pod interfaces in bytes: the underlay's less
	// the tunnel's overhead. Nil, or 0: the kernel's default.
	MTU func() int
	// Namespaces returns the pools that a namespace has its addresses from, in order;
	// none: it has no choice. It is not called for a pod that names pools or addresses
	// itself. It must not block: ADD calls it. Nil: no namespace has a choice.
	Namespaces func(namespace string) []string
	// IPv6 reports whether pods get IPv6 addresses, so that the self-test tries
	// those too. Nil: no.
	IPv6 func() bool
	// Ready returns nil when the agent can serve. ADD and STATUS answer with its
	// error, as "try again later" and "not available"; an error that wraps
	// [ErrLimited] or [ErrNotAvailable] lets ADD try all the same. Nil: always
	// ready.
	Ready func() error

	Table  uint32       // routing table of pod routes; 0: main
	Metric uint32       // metric of pod routes, equal to fib's; 0: the kernel's default
	Log    *slog.Logger // nil: discard
}

// withDefaults refuses a configuration without a required part, and fills in the
// rest.
func (c Config) withDefaults() (Config, error) {
	if c.IPAM == nil || c.Routes == nil {
		return c, fmt.Errorf("new CNI server: %w: IPAM and Routes are required", ErrInternal)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Senders == nil {
		c.Senders = allSenders{}
	}
	if c.Namespaces == nil {
		c.Namespaces = func(string) []string { return nil }
	}
	if c.Table == 0 {
		c.Table = unix.RT_TABLE_MAIN
	}
	return c, nil
}
