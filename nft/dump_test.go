package nft

import (
	"fmt"
	"testing"

	"github.com/google/nftables"
)

// TestSettled: what is read is read again when somebody's transaction comes
// between, with a bound.
func TestSettled(t *testing.T) {
	for _, c := range []struct {
		name               string
		interrupted, reads int
	}{
		{"nobody", 0, 1},
		{"once", 1, 2},
		{"five times", 5, 6},
		{"always", readTries + 1, readTries + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			needNFTables(t, h)
			reads := 0
			h.do(func() error {
				got, err := settled(0, func() (int, error) {
					reads++
					if reads <= c.interrupted {
						conn, err := dial()
						if err != nil {
							return 0, err
						}
						conn.AddTable(&nftables.Table{Name: fmt.Sprintf("other%d", reads), Family: nftables.TableFamilyINet})
						return reads, conn.Flush()
					}
					return reads, nil
				})
				if got != c.reads {
					t.Errorf("read %d times, got reading %d, want %d", reads, got, c.reads)
				}
				return err
			})
		})
	}
}
