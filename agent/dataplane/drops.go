package dataplane

import (
	"log/slog"
	"maps"
	"sync"
	"time"

	"onlink/agent/state"
	"onlink/nft"
	"onlink/tunnel"
)

// dropsAge is how old the counts may be that a scrape shows: scrapes that come at once
// share one reading of the kernel.
const dropsAge = time.Second

// Drops reads the packets that this node drops from the kernel's counters. It may be
// used by many goroutines.
type Drops struct {
	log     *slog.Logger
	rules   func() (map[nft.Cause]uint64, error)
	tunnels func() ([]tunnel.Losses, error)

	mu    sync.Mutex // guards all below
	at    time.Time  // of the last reading
	seen  map[nft.Cause]uint64
	total map[string]uint64
	last  state.Drops
	err   string // of the last reading
}

// NewDrops returns the reader of the counters of the present network namespace.
// Without tables (this kernel has no nftables, see [Filter.Open]) rules are not read.
func NewDrops(log *slog.Logger, tables bool) *Drops {
	d := &Drops{log: log, rules: nft.Drops, tunnels: tunnel.Lost, seen: map[nft.Cause]uint64{}, total: map[string]uint64{}}
	if !tables {
		d.rules = func() (map[nft.Cause]uint64, error) { return nil, nil }
	}
	return d
}

// Read returns the counts since the agent started to read them. They never decrease,
// though a table that is written again begins at 0. Where a counter cannot be read, the
// last count stays.
func (d *Drops) Read() state.Drops {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.at) >= dropsAge {
		d.at = now
		d.read()
	}
	return d.last
}

func (d *Drops) read() {
	next := state.Drops{Tunnels: d.last.Tunnels}
	rules, err := d.rules()
	for cause, n := range rules {
		if n >= d.seen[cause] {
			d.total[string(cause)] += n - d.seen[cause]
		} else { // the table was written again
			d.total[string(cause)] += n
		}
		d.seen[cause] = n
	}
	next.Rules = maps.Clone(d.total)
	d.failed(err)
	losses, err := d.tunnels()
	d.failed(err)
	if err == nil {
		next.Tunnels = lost(losses)
	}
	d.last = next
}

// lost returns the losses by device and direction.
func lost(list []tunnel.Losses) []state.Loss {
	var out []state.Loss
	for _, l := range list {
		out = append(out,
			state.Loss{Device: l.Device, Direction: "sent", Dropped: l.Sent.Dropped, Errors: l.Sent.Errors},
			state.Loss{Device: l.Device, Direction: "received", Dropped: l.Received.Dropped, Errors: l.Received.Errors})
	}
	return out
}

// failed logs an error that is not the last one: a scrape comes every few seconds.
func (d *Drops) failed(err error) {
	if err != nil && err.Error() != d.err {
		d.err = err.Error()
		d.log.Warn("failed to read counters of dropped packets", "err", err)
	}
}
