// Package glass is the looking glass: a web page that shows the sessions, the network
// as BGP has it, the paths to a prefix, and explanations of an address. It only reads.
// The page is plain files in the program; what it shows comes as JSON, and as a stream
// of events while it is open. It has no authentication, so it is for loopback, and
// everything that a reader can make the agent do is bounded (limits.go).
package glass

import (
	"context"
	"log/slog"
	"net/netip"

	"onlink/agent/endpoint"
	"onlink/agent/explain"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/rib"
)

// Config names the parts of the agent that the page shows.
type Config struct {
	Log      *slog.Logger
	Board    state.Source
	Sessions Sessions
	// Known returns the names of nodes, as the registry answered last.
	Known func() (explain.Known, bool)
	// Explain follows the chain of an address.
	Explain func(ctx context.Context, q explain.Question) (explain.Result, error)
	// Uses returns what each next hop is used for, with shown prefixes each.
	Uses func(ctx context.Context, shown int) ([]rib.Use, error)
	// Routes calls each with every decided route, and why the kernel does not hold it;
	// "": it does.
	Routes func(ctx context.Context, each func(r rib.Route, failed string)) error
}

// Sessions reads single sessions and prefixes: a [bgp.Operator].
type Sessions interface {
	Detail(ctx context.Context, peer netip.Addr) (bgp.PeerDetail, error)
	Prefixes(ctx context.Context, within netip.Prefix) ([]netip.Prefix, error)
	Candidates(ctx context.Context, prefix netip.Prefix) ([]bgp.Candidate, error)
}

// glass serves the page.
type glass struct {
	Config

	land     *landscape
	requests *limit // for data, the stream left out
	streams  *endpoint.Tally
	searches *endpoint.Tally
	explains *endpoint.Tally
	probing  *limit
}
