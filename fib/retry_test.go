package fib

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// memTable is an open table over a kernel in memory without faults.
func memTable(t *testing.T) (*Table, *memKernel) {
	t.Helper()
	k := newMemKernel(rand.New(rand.NewPCG(1, 2)))
	k.addLink("va")
	tab := New(Config{})
	tab.connect = func(Config) (kernel, error) { return k, nil }
	if err := tab.Open(); err != nil {
		t.Fatal(err)
	}
	return tab, k
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab, k := memTable(t)
		p := pfx("10.1.0.0/26")
		k.fib[tab.cfg.key(p)] = memRoute{protocol: unix.RTPROT_BIRD, kind: unix.RTN_BLACKHOLE}
		tab.Set(blackhole(p.String()))
		start := time.Now()
		for attempt := range 9 {
			if err := tab.Apply(t.Context()); !errors.Is(err, ErrForeign) {
				t.Fatalf("attempt %d: %v", attempt, err)
			}
			if err := tab.Apply(t.Context()); err != nil {
				t.Fatalf("Apply before the retry is due: %v", err)
			}
			wait := time.Until(tab.NextRetry())
			if want := min(retryFirst<<attempt, retryMost); wait != want {
				t.Errorf("attempt %d: wait %v, want %v", attempt, wait, want)
			}
			time.Sleep(wait)
		}
		delete(k.fib, tab.cfg.key(p))
		if err := tab.Apply(t.Context()); err != nil {
			t.Error(err)
		}
		if ok, err := tab.Installed(p); !ok {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if !tab.NextRetry().IsZero() {
			t.Error("a retry is planned although nothing fails")
		}
	})
}

func TestCancelledApplyKeepsWork(t *testing.T) {
	tab, _ := memTable(t)
	for i := range 1000 {
		tab.Set(unicast(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), "10.0.0.1 va"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tab.Apply(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: %v", err)
	}
	mustApply(t, tab)
	if s := tab.Stats(); s.Added != 1000 || s.Objects != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestManyErrorsStayShort(t *testing.T) {
	tab, _ := memTable(t)
	for i := range 1000 {
		tab.Set(unicast(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), "10.0.0.1 nowhere"))
	}
	err := tab.Apply(t.Context())
	if !errors.Is(err, ErrNoDevice) || len(err.Error()) > 1000 {
		t.Errorf("%d bytes: %.200v", len(err.Error()), err)
	}
	if n := len(tab.Failures()); n != 1000 {
		t.Errorf("%d failures", n)
	}
}
