package cni

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// Config is what a [Server] needs of the agent.
type Config struct {
	IPAM   IPAM   // required
	Routes Routes // required

	// Senders is told which MAC address each pod may send from. Nil: a pod may
	// send from any.
	Senders Senders
	// Sysctls are the extra sysctls that pods may have, as names with dots, with
	// * and ? as in path.Match, until SetSysctls. Nil: none.
	Sysctls []string
	// MTU returns the MTU of new pod interfaces in bytes: the underlay's less
	// the tunnel's overhead. Nil, or 0: the kernel's default.
	MTU func() int
	// IPv6 reports whether pods get IPv6 addresses, so that the self-test tries
	// those too. Nil: no.
	IPv6 func() bool
	// Ready returns nil when the agent can serve. Its error is what ADD and
	// STATUS answer with, as "try again later" and "not available"; an error
	// that wraps [ErrLimited] or [ErrNotAvailable] lets ADD try all the same.
	// Nil: always ready.
	Ready func() error

	Table  uint32       // routing table of pod routes; 0: main
	Metric uint32       // metric of pod routes, the same that fib uses; 0: the kernel's default
	Log    *slog.Logger // nil: discard
}

// withDefaults refuses what no server can do without, and fills in the rest.
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
	if c.Table == 0 {
		c.Table = unix.RT_TABLE_MAIN
	}
	return c, nil
}
