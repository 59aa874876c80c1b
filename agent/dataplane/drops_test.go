package dataplane

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/state"
	"onlink/nft"
	"onlink/tunnel"
)

// TestDrops: counts of rules never decrease, whatever becomes of the tables; readers that
// come at once share one reading; what cannot be read stays as it was.
func TestDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDrops(slog.New(slog.DiscardHandler), true)
		var rules map[nft.Cause]uint64
		var err error
		reads := 0
		d.rules = func() (map[nft.Cause]uint64, error) { reads++; return rules, err }
		sent := tunnel.Losses{Device: "onlink-vxlan"}
		sent.Sent.Dropped, sent.Received.Errors = 3, 4
		d.tunnels = func() ([]tunnel.Losses, error) { return []tunnel.Losses{sent}, err }
		for _, step := range []struct {
			name  string
			rules map[nft.Cause]uint64
			err   error
			want  map[string]uint64
		}{
			{"first", map[nft.Cause]uint64{nft.DropGuard: 0, nft.DropMAC: 2}, nil, map[string]uint64{"guard": 0, "mac": 2}},
			{"more", map[nft.Cause]uint64{nft.DropGuard: 5, nft.DropMAC: 2}, nil, map[string]uint64{"guard": 5, "mac": 2}},
			{"a table was written again", map[nft.Cause]uint64{nft.DropGuard: 1, nft.DropMAC: 3}, nil, map[string]uint64{"guard": 6, "mac": 3}},
			{"the tables are gone", nil, nil, map[string]uint64{"guard": 6, "mac": 3}},
			{"the kernel does not answer", nil, errors.New("no buffer space"), map[string]uint64{"guard": 6, "mac": 3}},
		} {
			rules, err = step.rules, step.err
			time.Sleep(dropsAge) // synctest's clock
			before := reads
			d.Read()
			got := d.Read()
			if reads != before+1 {
				t.Errorf("%s: %d readings of two readers that come at once", step.name, reads-before)
			}
			want := state.Drops{Rules: step.want, Tunnels: []state.Loss{
				{Device: "onlink-vxlan", Direction: "sent", Dropped: 3}, {Device: "onlink-vxlan", Direction: "received", Errors: 4},
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", step.name, diff)
			}
		}
	})
}
