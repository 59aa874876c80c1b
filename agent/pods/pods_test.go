package pods

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/cni"
	"onlink/cni/pod"
	"onlink/ipam"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// assigned is a pod with one address.
func assigned(name, addr string) ipam.Assignment {
	return ipam.Assignment{
		Handle: ipam.Handle{ContainerID: name, IfName: "eth0"}, Namespace: "default", Pod: name,
		Addresses: []netip.Addr{ip(addr)}, HostDevice: "onl-" + name,
	}
}

// wired is a pod's interface in the kernel.
func wired(name string, ended bool) pod.Wired {
	return pod.Wired{
		Attachment: cni.Attachment{ContainerID: name, IfName: "eth0", Namespace: "default", Pod: name}, HostDevice: "onl-" + name, Ended: ended,
	}
}

// TestRoutes: the latest word on an address wins, one signal wakes for all of
// them, and none is drained twice.
func TestRoutes(t *testing.T) {
	r := NewRoutes()
	a, b := netip.MustParsePrefix("10.244.1.5/32"), netip.MustParsePrefix("10.244.1.6/32")
	r.SetPod(a, "onl1")
	r.SetPod(b, "onl2")
	r.DeletePod(a)
	select {
	case <-r.Wake():
	default:
		t.Error("no signal")
	}
	select {
	case <-r.Wake():
		t.Error("a signal for each change")
	default:
	}
	if got, want := r.Drain(), map[netip.Prefix]string{a: "", b: "onl2"}; !maps.Equal(got, want) {
		t.Errorf("drained %v, want %v", got, want)
	}
	if got := r.Drain(); got != nil {
		t.Errorf("drained %v again", got)
	}
}

// TestHere: what proves that a database is this machine's.
func TestHere(t *testing.T) {
	got := Here([]pod.Wired{wired("web", false), wired("gone", true)})
	if want := []ipam.Handle{{ContainerID: "web", IfName: "eth0"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// sweeper frees some attachments at each sweep.
type sweeper struct {
	frees  int
	err    error
	sweeps int
}

func (s *sweeper) Sweep(context.Context) ([]cni.Attachment, error) {
	s.sweeps++
	return make([]cni.Attachment, s.frees), s.err
}

// quarantines are addresses out of use.
type quarantines struct {
	kept  []ipam.Quarantine
	owned netip.Addr // assigned to another pod meanwhile
}

func (q *quarantines) Quarantined() []ipam.Quarantine { return slices.Clone(q.kept) }
func (q *quarantines) EndQuarantine(h ipam.Handle) {
	q.kept = slices.DeleteFunc(q.kept, func(k ipam.Quarantine) bool { return k.Handle == h })
}

func (q *quarantines) ByAddress(a netip.Addr) (ipam.Assignment, bool) {
	return ipam.Assignment{}, a == q.owned
}

// TestCollector: what ended is freed every few seconds, also after a failure,
// and counted; an address leaves its quarantine when the pod that holds it has
// ended, with its route unless another pod has the address.
func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keep := func(name, addr string) ipam.Quarantine {
			return ipam.Quarantine{Handle: ipam.Handle{ContainerID: name, IfName: "eth0"}, Address: ip(addr), Pod: name}
		}
		s := &sweeper{frees: 2, err: errors.New("busy")}
		q := &quarantines{kept: []ipam.Quarantine{keep("runs", "10.244.1.5"), keep("ended", "10.244.1.6"), keep("reused", "10.244.1.7")}, owned: ip("10.244.1.7")}
		c := &Collector{Log: slog.New(slog.DiscardHandler), Server: s, Alloc: q, Routes: NewRoutes()}
		c.wired = func() ([]pod.Wired, error) { return []pod.Wired{wired("runs", false), wired("ended", true)}, nil }
		ctx, stop := context.WithCancel(t.Context())
		var ended atomic.Bool
		go func() {
			_ = c.Run(ctx)
			ended.Store(true)
		}()
		time.Sleep(2*sweepEvery + time.Second)
		synctest.Wait()
		if s.sweeps != 2 || c.Swept() != 4 {
			t.Errorf("%d sweeps freed %d", s.sweeps, c.Swept())
		}
		if len(q.kept) != 1 || q.kept[0].Pod != "runs" {
			t.Errorf("kept %v", q.kept)
		}
		if got, want := c.Routes.Drain(), map[netip.Prefix]string{netip.MustParsePrefix("10.244.1.6/32"): ""}; !maps.Equal(got, want) {
			t.Errorf("routes %v, want %v", got, want)
		}
		stop()
		synctest.Wait()
		if !ended.Load() {
			t.Error("runs on")
		}
	})
}

// mtus remembers the MTUs that pods were given.
type mtus struct{ list []int }

func (m *mtus) PodMTUs() ([]int, error) { return m.list, nil }
func (m *mtus) NotePodMTU(mtu int) error {
	m.list = append([]int{mtu}, m.list...)
	return nil
}

// TestMTU: pods that have another MTU get the present one, those that could not
// are tried again, and a pod that has just ended is no failure.
func TestMTU(t *testing.T) {
	has := map[string]int{"onl-web": 1480, "onl-db": 1480, "onl-right": 1430}
	var given []string
	fails := map[string]error{"onl-db": errors.New("busy"), "onl-gone": fs.ErrNotExist}
	m := &MTU{
		Log: slog.New(slog.DiscardHandler), Store: &mtus{list: []int{1480}},
		Assignments: func() []ipam.Assignment {
			return []ipam.Assignment{assigned("web", "10.244.1.5"), assigned("db", "10.244.1.6"), assigned("right", "10.244.1.7"), assigned("gone", "10.244.1.8")}
		},
		host: func() (map[string]int, error) { return has, nil },
		give: func(_, _, host string, former []int, mtu int) error {
			if !slices.Equal(former, []int{1480}) && !slices.Equal(former, []int{1430, 1480}) || mtu != 1430 {
				t.Errorf("%s: %d in place of %v", host, mtu, former)
			}
			given = append(given, host)
			if fails[host] == nil {
				has[host] = mtu
			}
			return fails[host]
		},
	}
	step := func(name string, mtu int, left bool, want ...string) {
		t.Helper()
		given = nil
		if got := m.tell(mtu); got != left || !slices.Equal(given, want) {
			t.Errorf("%s: given to %q, left over %t; want %q, %t", name, given, got, want, left)
		}
	}
	step("not known yet", 0, false)
	step("a new one", 1430, true, "onl-web", "onl-db", "onl-gone")
	step("only the one that was left", 1430, true, "onl-db")
	delete(fails, "onl-db")
	step("it can be given now", 1430, false, "onl-db")
	step("nothing to do", 1430, false)
	m.host = func() (map[string]int, error) { return nil, errors.New("no memory") }
	step("devices cannot be listed", 1400, true)
}

// TestKernelProblems: what database and kernel disagree on is named with its
// pod; pods that come or go during the check are left out.
func TestKernelProblems(t *testing.T) {
	here, away := assigned("here", "10.244.1.5"), assigned("away", "10.244.1.6")
	here.Netns, away.Netns = t.TempDir(), filepath.Join(t.TempDir(), "gone")
	for _, c := range []struct {
		name          string
		before, after []ipam.Assignment
		wired         []pod.Wired
		want          []string
	}{
		{"nothing", nil, nil, nil, nil},
		{"an interface without an address", nil, nil, []pod.Wired{wired("web", false)}, []string{"pod default/web: its interface onl-web has no address in the database"}},
		{"one that is being removed", nil, nil, []pod.Wired{wired("web", true)}, nil},
		{"one that has just come", nil, []ipam.Assignment{assigned("web", "10.244.1.7")}, []pod.Wired{wired("web", false)}, nil},
		{"one that has just gone", []ipam.Assignment{here}, nil, nil, nil},
		{"the pod is gone", []ipam.Assignment{away}, []ipam.Assignment{away}, nil, []string{"pod default/away (away/eth0) has [10.244.1.6], but the pod is gone"}},
		{"only its interface is", []ipam.Assignment{here}, []ipam.Assignment{here}, nil, []string{"pod default/here (here/eth0) has [10.244.1.5], but its interface does not exist"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := kernelProblems(c.before, c.after, c.wired, 254)
			if err != nil || !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestAddresses: the CNI service sees ipam through attachments, and learns
// whose fault a refusal is.
func TestAddresses(t *testing.T) {
	store, err := ipam.OpenStore(filepath.Join(t.TempDir(), "onlink.db"), ipam.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	alloc, err := ipam.New(ipam.Config{
		Node: "n1", Address: ip("10.57.0.11"), Store: store, Registry: store.BoltRegistry().OwnNode(), Log: slog.New(slog.DiscardHandler),
		Pools: []ipam.Pool{{Name: "main", CIDR: netip.MustParsePrefix("10.244.0.0/16"), BlockSize: 26}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- alloc.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	s := Addresses{Alloc: alloc}
	at := cni.Attachment{ContainerID: "c1", IfName: "eth0", Namespace: "default", Pod: "web", Netns: "/run/netns/x"}
	lease, err := s.Assign(t.Context(), at, cni.Ask{})
	if err != nil || len(lease.Addresses) != 1 {
		t.Fatalf("%v, %v", lease, err)
	}
	if got, ok := s.Lookup(at); !ok || !slices.Equal(got.Addresses, lease.Addresses) {
		t.Errorf("%v, %t; want %v", got, ok, lease)
	}
	if diff := cmp.Diff([]cni.Attachment{at}, s.Attachments()); diff != "" {
		t.Error(diff)
	}
	other := cni.Attachment{ContainerID: "c2", IfName: "eth0", Namespace: "default", Pod: "db", Netns: "/run/netns/y"}
	if _, err := s.Assign(t.Context(), other, cni.Ask{Pools: []string{"no such pool"}}); !errors.Is(err, cni.ErrConfig) {
		t.Errorf("a pool that there is not: %v", err)
	}
	if err := s.Release(t.Context(), at); err != nil {
		t.Error(err)
	}
	if _, ok := s.Lookup(at); ok {
		t.Error("still there")
	}
}
