package bgp

import (
	"log/slog"
	"sync"
	"time"

	"onlink/bgp/gobgp"
	"onlink/bgp/policy"
	"onlink/rib"
)

// Speaker is one BGP speaker. Make it with [New], then [Speaker.Start] and
// [Speaker.Run] it once.
//
// It joins parts with one job each: sessions moves the engine to the desired peers,
// watch receives the engine's events, ledger keeps the history of each session,
// importGuard refuses the routes that no policy may accept, lookout keeps the
// announcements of our prefixes by other nodes.
type Speaker struct {
	cfg     Config
	log     *slog.Logger
	ledger  *ledger
	watch   *watch
	guard   importGuard
	lookout lookout
	md5     md5Watch
	// refuses: the engine is unpatched, and Config.AllowUnpatched is not set.
	refuses bool
	engine  *gobgp.Engine // nil before Start, which sets it

	mu        sync.Mutex // guards all below; held while the engine is changed
	started   bool
	startedAt time.Time
	applied   bool // SetPeers reached the engine once
	sessions  sessions
	origins   origins
	plan      *policy.Plan // in force
	stopWatch func()
}

// New returns a speaker for cfg, or an [ErrConfig]. It starts nothing.
func New(cfg Config) (*Speaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	l := newLedger()
	s := &Speaker{
		cfg: cfg, log: cfg.Log, ledger: l, watch: newWatch(&cfg, l), lookout: lookout{log: cfg.Log},
		guard:   importGuard{suspect: make(chan struct{}, 1), facts: policy.Facts{Owners: policy.NewOwners(nil)}},
		refuses: !Patched() && !cfg.AllowUnpatched,
		origins: origins{},
	}
	s.sessions = newSessions(&s.cfg, l)
	return s, nil
}

// Engine returns the name and version of the BGP engine in this binary, as
// the build recorded it, and whether the patches of bgp/engine are in it:
// "gobgp v3.37.0 patched" or "gobgp v3.37.0 unpatched".
func Engine() string { return gobgp.Version() }

// Patched reports whether the engine in this binary is the patched one. A
// message of a peer can make an unpatched engine panic.
func Patched() bool { return gobgp.Patched() }

// Changed signals that [Speaker.Drain] has updates. It has room for one signal
// and is never closed.
func (s *Speaker) Changed() <-chan struct{} { return s.watch.feed.changed }

// Drain calls each with the newest full best-path set of every prefix that may
// have changed since the last call, each prefix once, next hops without
// duplicates. Own prefixes have no path, so an empty set may be of a prefix that
// the caller has never received. After a stop it never calls each. It returns when
// the oldest of the changes was received; the zero Time: there is none.
func (s *Speaker) Drain(each func(rib.Update)) (since time.Time) { return s.watch.feed.drain(each) }
