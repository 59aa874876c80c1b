package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"onlink/ipam"
)

// assignBudget is how long one round of assigns lasts.
const assignBudget = time.Second

// netnsExample is as long as the paths that container runtimes give.
const netnsExample = "/run/netns/cni-6f1c2f0e-6a3e-4a7e-9d0c-6d7c1f0a2b3c"

// node is an allocator that runs on a store of its own.
type node struct {
	*ipam.Allocator
	close func() error
}

func startNode(ctx context.Context, dir string) (*node, error) {
	store, err := ipam.OpenStore(filepath.Join(dir, "onlink.db"), ipam.StoreOptions{})
	if err != nil {
		return nil, err
	}
	a, err := ipam.New(ipam.Config{
		Node: "near", Store: store, Registry: store.BoltRegistry(), Cooldown: -1,
		Pools: []ipam.Pool{{Name: "default", CIDR: netip.MustParsePrefix("10.64.0.0/12"), BlockSize: 22}},
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return &node{a, func() error {
		cancel()
		return errors.Join(<-done, store.Close())
	}}, nil
}

// assign makes durable assigns with a number of workers for a while and
// returns the rate and each call's milliseconds.
func (n *node) assign(ctx context.Context, workers int) (perSecond float64, took samples, err error) {
	var next atomic.Int64
	times, errs := make([]samples, workers), make([]error, workers)
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range workers {
		wg.Go(func() {
			for time.Since(begin) < assignBudget && errs[w] == nil {
				at := time.Now()
				id := next.Add(1)
				_, errs[w] = n.Assign(ctx, ipam.Request{
					Handle: ipam.Handle{ContainerID: fmt.Sprintf("%064x", id), IfName: "eth0"}, Netns: netnsExample,
					Namespace: "default", Pod: "web-6d7c1f0a2b3c", UID: "6f1c2f0e-6a3e-4a7e-9d0c-6d7c1f0a2b3c", HostDevice: "onl0123456789a",
				})
				times[w] = append(times[w], time.Since(at).Seconds()*1000)
			}
		})
	}
	wg.Wait()
	passed := time.Since(begin).Seconds()
	for _, t := range times {
		took = append(took, t...)
	}
	return float64(len(took)) / passed, took, errors.Join(errs...)
}

// ipamSamples is what the rounds of the allocator showed.
type ipamSamples struct{ rate, p50, p99 samples }

// ipamFigures: durable assigns next to host-local's algorithm and to the disk.
func ipamFigures(ctx context.Context, r *run) error {
	if err := r.buildPeers(ctx); err != nil {
		return err
	}
	workers := []int{1, 8, 32, 128}
	ours := map[int]*ipamSamples{}
	files := map[int]*samples{}
	for _, c := range workers {
		ours[c], files[c] = &ipamSamples{}, &samples{}
	}
	var flushRate, flushTime samples
	err := r.rounds(ctx, func(ctx context.Context) error {
		for _, c := range workers {
			if err := r.assignRound(ctx, c, ours[c], files[c]); err != nil {
				return err
			}
		}
		took, err := r.flushes()
		if err != nil {
			return err
		}
		flushRate, flushTime = append(flushRate, 1000/took.mean()), append(flushTime, took.median())
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range workers {
		r.report(fmt.Sprintf("ipam.assign_c%d", c), "assigns/s", ours[c].rate, versus{name: "host-local's algorithm in process", samples: *files[c]})
		r.report(fmt.Sprintf("ipam.assign_c%d_p50", c), "ms", ours[c].p50, versus{why: "no peer"})
		r.report(fmt.Sprintf("ipam.assign_c%d_p99", c), "ms", ours[c].p99, versus{why: "no peer"})
	}
	r.report("ipam.assign_fsync", "assigns/s", ours[32].rate, versus{name: "two writes and fdatasyncs, one after the other", samples: flushRate})
	r.report("ipam.commit_c1", "ms", ours[1].p50, versus{name: "two writes and fdatasyncs", samples: flushTime})
	return nil
}

// assignRound measures one concurrency on both sides.
func (r *run) assignRound(ctx context.Context, workers int, ours *ipamSamples, files *samples) (err error) {
	dir, err := os.MkdirTemp(r.dir, "ipam-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n, err := startNode(ctx, dir)
	if err != nil {
		return err
	}
	rate, took, err := n.assign(ctx, workers)
	if err = errors.Join(err, n.close()); err != nil {
		return err
	}
	ours.rate, ours.p50, ours.p99 = append(ours.rate, rate), append(ours.p50, took.median()), append(ours.p99, took.percentile(99))
	const count = 500 // host-local gets slower with every address in use
	out, err := exec.CommandContext(ctx, filepath.Join(r.bin, "assign"), filepath.Join(dir, "files"), strconv.Itoa(workers), strconv.Itoa(count)).Output()
	if err != nil {
		return fmt.Errorf("run host-local's algorithm: %w", err)
	}
	rate, err = strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	*files = append(*files, rate)
	return err
}

// mean is for rates, where a slow sample counts in full.
func (s samples) mean() float64 {
	sum := 0.0
	for _, x := range s {
		sum += x
	}
	return sum / float64(len(s))
}

// flushes does by hand the disk work of one bbolt commit, again and again, and
// returns each one's milliseconds: four pages of data, fdatasync, the meta
// page, fdatasync.
func (r *run) flushes() (took samples, err error) {
	f, err := os.Create(filepath.Join(r.dir, "flush"))
	if err != nil {
		return nil, fmt.Errorf("create file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	const page, pages = 4096, 64
	if _, err := f.Write(make([]byte, page*pages)); err != nil {
		return nil, fmt.Errorf("write file: %w", err)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("write file: %w", err)
	}
	data := make([]byte, 4*page)
	for begin := time.Now(); time.Since(begin) < assignBudget; {
		at := time.Now()
		for _, w := range []struct {
			b  []byte
			at int64
		}{{data, 8 * page}, {data[:page], 0}} {
			if _, err := f.WriteAt(w.b, w.at); err != nil {
				return nil, fmt.Errorf("write file: %w", err)
			}
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return nil, fmt.Errorf("flush file: %w", err)
			}
		}
		took = append(took, time.Since(at).Seconds()*1000)
	}
	return took, nil
}

// buildPeers builds the reference plugins, from the versions that
// tools/peers/go.mod pins.
func (r *run) buildPeers(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(r.bin, "host-local")); err == nil {
		return nil
	}
	r.say("building the reference plugins")
	const plugins = "github.com/containernetworking/plugins/plugins/"
	return r.goBuild(ctx, "tools/peers", "./assign", plugins+"main/ptp", plugins+"ipam/host-local")
}

// startFigure: opening a full node, 65,536 addresses in 1,024 blocks.
func startFigure(ctx context.Context, r *run) error {
	dir, err := os.MkdirTemp(r.dir, "start-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	const addresses, workers = 1 << 16, 256
	pool := []ipam.Pool{{Name: "default", CIDR: netip.MustParsePrefix("10.64.0.0/16"), BlockSize: 26}}
	path := filepath.Join(dir, "onlink.db")
	if err := fillNode(ctx, path, pool, addresses, workers); err != nil {
		return err
	}
	var took, heap samples
	err = r.rounds(ctx, func(context.Context) error {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		begin := time.Now()
		store, err := ipam.OpenStore(path, ipam.StoreOptions{})
		if err != nil {
			return err
		}
		a, err := ipam.New(ipam.Config{Node: "near", Store: store, Registry: store.BoltRegistry(), Pools: pool})
		if err != nil {
			return errors.Join(err, store.Close())
		}
		took = append(took, time.Since(begin).Seconds()*1000)
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap = append(heap, (float64(after.HeapAlloc)-float64(before.HeapAlloc))/(1<<20))
		if n := len(a.Assignments()); n != addresses {
			err = fmt.Errorf("the node has %d assignments, want %d", n, addresses)
		}
		return errors.Join(err, store.Close())
	})
	if err != nil {
		return err
	}
	r.report("ipam.start_65536", "ms", took, versus{why: "no peer"})
	r.report("ipam.start_65536_heap", "MB", heap, versus{why: "no peer"})
	return nil
}

// fillNode assigns every address of a pool.
func fillNode(ctx context.Context, path string, pool []ipam.Pool, addresses, workers int) error {
	store, err := ipam.OpenStore(path, ipam.StoreOptions{})
	if err != nil {
		return err
	}
	a, err := ipam.New(ipam.Config{Node: "near", Store: store, Registry: store.BoltRegistry(), Pools: pool})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	errs := make([]error, workers)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(addresses) && errs[w] == nil; i = next.Add(1) {
				_, errs[w] = a.Assign(ctx, ipam.Request{
					Handle: ipam.Handle{ContainerID: fmt.Sprintf("%064x", i), IfName: "eth0"}, Netns: netnsExample,
					Namespace: "default", Pod: "web-6d7c1f0a2b3c", HostDevice: "onl0123456789a",
				})
			}
		})
	}
	wg.Wait()
	cancel()
	return errors.Join(errors.Join(errs...), <-done, store.Close())
}
