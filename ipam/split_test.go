package ipam

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestSplitSurvivesHalf cuts one half off: claims come from the other, held
// blocks stay confirmed, and the half that is back is used again.
func TestSplitSurvivesHalf(t *testing.T) {
	for _, hang := range []bool{false, true} {
		t.Run(fmt.Sprintf("hang=%v", hang), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := Pool{Name: "p", CIDR: pfx("10.0.0.0/22"), BlockSize: 26} // 16 blocks
				a, b := &flaky{Registry: openStore(t, dbPath(t)).BoltRegistry()}, &flaky{Registry: openStore(t, dbPath(t)).BoltRegistry()}
				split := NewSplit(a, b, []Pool{pool})
				s := openStore(t, dbPath(t))
				n := startNode(t, Config{Store: s, Registry: split, Pools: []Pool{pool}, Spare: -1})
				n.add(0)
				synctest.Wait()
				for _, f := range []*flaky{a, b} {
					f.cut(errCut, hang)
					free := 0 // in the half that is left
					for i := range 64 * 8 {
						if _, err := n.Assign(context.Background(), Request{Handle: Handle{ContainerID: fmt.Sprintf("%p-%d", f, i), IfName: "eth0"}}); err != nil {
							break
						}
						free++
					}
					if free < 64*7 {
						t.Fatalf("only %d addresses while one half is away", free)
					}
					time.Sleep(3 * DefaultAssertInterval)
					for _, u := range n.Blocks() {
						if !u.Confirmed {
							t.Errorf("%v is not confirmed", u.CIDR)
						}
					}
					if split.Problem() == nil {
						t.Error("nobody says that one half is away")
					}
					f.cut(nil, false)
					time.Sleep(3 * DefaultAssertInterval)
					if err := split.Problem(); err != nil {
						t.Errorf("still: %v", err)
					}
				}
				n.refuses(Request{Handle: handle(9999)}, ErrExhausted)
				n.sound()
			})
		})
	}
}

func TestSplitRefusesOneBlockPool(t *testing.T) {
	r := openStore(t, dbPath(t)).BoltRegistry()
	s := NewSplit(r, r, nil)
	_, err := s.Claim(t.Context(), ClaimRequest{Caller: Caller{Node: "n"}, Pool: "p", PoolCIDR: pfx("10.0.0.0/26"), BlockSize: 26})
	if !errors.Is(err, ErrInvalidRequest) {
		t.Fatalf("got %v", err)
	}
}
