package diags

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
	"onlink/nft"
)

// Bounds of the lists of the kernel.
const (
	maxRoutes     = 5000 // of each family
	maxNeighbours = 5000
	maxLinks      = 2000
	maxSettings   = 20000
	maxFile       = 64 << 10 // bytes of a file of /proc
)

// Machine returns the parts that need no agent: the kernel's state, and the host.
func Machine() []Part {
	return []Part{
		{Name: "host/system.txt", Write: files("/proc/version", "/etc/os-release", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/sys/kernel/hostname")},
		{Name: "host/network.txt", Write: files("/proc/net/snmp", "/proc/net/snmp6", "/proc/net/netstat", "/proc/net/sockstat", "/proc/net/sockstat6", "/proc/net/softnet_stat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")},
		{Name: "kernel/conntrack.txt", Write: files("/proc/sys/net/netfilter/nf_conntrack_count", "/proc/sys/net/netfilter/nf_conntrack_max", "/proc/sys/net/netfilter/nf_conntrack_buckets", "/proc/net/stat/nf_conntrack")},
		{Name: "kernel/links.txt", Write: list(func(w io.Writer) error { return dump.ReportLinks(w, maxLinks) })},
		{Name: "kernel/addresses.txt", Write: list(func(w io.Writer) error { return dump.ReportAddresses(w, maxLinks) })},
		{Name: "kernel/neighbours.txt", Write: list(func(w io.Writer) error { return dump.ReportNeighbours(w, maxNeighbours) })},
		{Name: "kernel/rules.txt", Write: list(func(w io.Writer) error { return dump.ReportRules(w, maxLinks) })},
		{Name: "kernel/routes4.txt", Write: list(func(w io.Writer) error { return dump.ReportRoutes(w, unix.AF_INET, maxRoutes) })},
		{Name: "kernel/routes6.txt", Write: list(func(w io.Writer) error { return dump.ReportRoutes(w, unix.AF_INET6, maxRoutes) })},
		{Name: "kernel/nftables.txt", Write: list(nft.Report)},
		{Name: "kernel/sysctls.txt", Write: settings("/proc/sys/net")},
	}
}

// Process returns the parts of the calling process.
func Process() []Part {
	return []Part{
		{Name: "process/goroutines.txt", Write: func(_ context.Context, w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 1) }},
		{Name: "process/heap.pb.gz", Binary: true, Write: func(_ context.Context, w io.Writer) error { return pprof.Lookup("heap").WriteTo(w, 0) }},
		{Name: "process/memory.txt", Write: func(_ context.Context, w io.Writer) error {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			_, err := fmt.Fprintf(w, "goroutines %d\nheap in use %d\nheap objects %d\nfrom the system %d\ncollections %d\n",
				runtime.NumGoroutine(), m.HeapInuse, m.HeapObjects, m.Sys, m.NumGC)
			return err
		}},
		{Name: "process/status.txt", Write: files("/proc/self/status", "/proc/self/limits", "/proc/self/cgroup", "/proc/self/stat", "/proc/self/io")},
	}
}

// list is the Write of a list that knows no context: a part that outlives its time is
// left behind.
func list(write func(io.Writer) error) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error { return write(w) }
}

// files writes files behind each other; one that is not there is no error.
func files(names ...string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		var errs []error
		for _, name := range names {
			text, err := readFile(name)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					errs = append(errs, err)
				}
				continue
			}
			if _, err := fmt.Fprintf(w, "==> %s\n%s\n", name, text); err != nil {
				return err
			}
		}
		return errors.Join(errs...)
	}
}

// readFile reads the beginning of a file.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// secretSettings are settings of the kernel that are keys (ip-sysctl.rst).
var secretSettings = []string{"stable_secret", "tcp_fastopen_key"}

// settings writes the settings below a folder, a line each: those of all devices but the
// pods', of which the first shows how they are.
func settings(root string) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		seen, pods := 0, map[string]string{}
		return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				return nil //nolint:nilerr // a device that went away meanwhile
			case d.IsDir() && podDevice(d.Name()):
				if first := pods[filepath.Dir(name)]; first != "" {
					return fs.SkipDir
				}
				pods[filepath.Dir(name)] = name
				return nil
			case d.IsDir() || slices.Contains(secretSettings, d.Name()):
				return nil
			case seen >= maxSettings:
				return fs.SkipAll
			}
			text, err := readFile(name)
			if err != nil {
				return nil //nolint:nilerr // write-only, or gone
			}
			seen++
			key := strings.TrimPrefix(name, "/proc/sys/")
			_, err = fmt.Fprintf(w, "%s = %s\n", key, oneLine(string(text)))
			return err
		})
	}
}

// podDevice reports whether a device looks like a pod's host end.
func podDevice(name string) bool {
	isOurs := strings.HasPrefix(name, ours.HostDevicePrefix) && len(name) == len(ours.HostDevicePrefix)+ours.HostDeviceDigits
	return isOurs || strings.HasPrefix(name, "veth")
}

// Folder writes the names, sizes and modes of the files of a folder.
func Folder(dir string) Part {
	return Part{Name: "cni/" + filepath.Base(dir) + ".txt", Write: func(_ context.Context, w io.Writer) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue // it went away
			}
			if _, err := fmt.Fprintf(w, "%s %10d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format("2006-01-02T15:04:05Z"), filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		return nil
	}}
}
