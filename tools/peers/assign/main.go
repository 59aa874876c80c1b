// Command assign runs host-local's own allocator in this process and prints
// the assigns per second: what its algorithm, one file per address under a
// file lock, costs without starting a plugin.
//
//	assign DIR WORKERS COUNT
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "assign:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("usage: assign DIR WORKERS COUNT")
	}
	workers, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	var set allocator.RangeSet
	if err := json.Unmarshal([]byte(`[{"subnet":"10.66.0.0/16"}]`), &set); err != nil {
		return err
	}
	if err := set.Canonicalize(); err != nil {
		return err
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	begin := time.Now()
	for range workers {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(count) {
					return
				}
				if err := assign(os.Args[1], &set, fmt.Sprintf("%064x", i)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	select {
	case err := <-errs:
		return err
	default:
	}
	fmt.Printf("%.1f\n", float64(count)/took.Seconds())
	return nil
}

// assign is what the plugin's ADD does: it opens the store, takes one address
// and closes the store.
func assign(dir string, set *allocator.RangeSet, id string) error {
	store, err := disk.New("bench", dir)
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = allocator.NewIPAllocator(set, store, 0).Get(id, "eth0", nil)
	return err
}
