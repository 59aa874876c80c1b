package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// levelOf returns the level of a part of a log, which must be there.
func levelOf(t *testing.T, l *Log, name string) slog.Level {
	t.Helper()
	_, parts := l.Levels()
	i := slices.IndexFunc(parts, func(p Part) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no part %s in %v", name, parts)
	}
	return parts[i].Level
}

// messages returns the lines of a log in text, without their times.
func messages(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), "level=")
		out = append(out, rest)
	}
	return out
}

// TestLevels: a part's level decides about its lines and no others'.
func TestLevels(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, slog.LevelInfo, false)
	main := l.Logger()
	bgp := main.With("part", "bgp").With("peer", "tor1")
	engine := bgp.With("part", "engine")
	if err := l.Set(slog.LevelDebug, "alice", 0, "engine"); err != nil {
		t.Fatal(err)
	}
	if err := l.Set(slog.LevelError, "alice", 0, "bgp"); err != nil {
		t.Fatal(err)
	}
	main.Debug("m1")
	main.Info("m2")
	bgp.Warn("b1")
	bgp.Error("b2")
	engine.Debug("e1")
	engine.WithGroup("g").Debug("e2", "part", "bgp")
	got := messages(out.String())
	// The part stands behind the attributes that the logger had before it.
	want := []string{
		`WARN msg="log level set" parts=engine to=debug lasts="until a restart" by=alice`,
		`WARN msg="log level set" parts=bgp to=error lasts="until a restart" by=alice`,
		"INFO msg=m2", "ERROR msg=b2 part=bgp peer=tor1", "DEBUG msg=e1 peer=tor1 part=engine", "DEBUG msg=e2 peer=tor1 part=engine g.part=bgp",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var kept bytes.Buffer
	if _, err := l.Lines().WriteTo(&kept); err != nil || kept.String() != out.String() {
		t.Errorf("kept %q (%v), want %q", kept.String(), err, out.String())
	}
}

// TestConfigured: a setting stands over a reload, and what follows it is the
// configuration's level of that time.
func TestConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(&out, slog.LevelInfo, false)
		l.Logger().With("part", "fib")
		if err := l.Set(slog.LevelDebug, "alice", 10*time.Minute, "fib"); err != nil {
			t.Fatal(err)
		}
		l.Configure(slog.LevelWarn)
		if fib, main := levelOf(t, l, "fib"), levelOf(t, l, Main); fib != slog.LevelDebug || main != slog.LevelWarn {
			t.Errorf("after a reload fib has %v and the agent %v", fib, main)
		}
		time.Sleep(9 * time.Minute)
		// A second setting replaces the first one, and its end.
		if err := l.Set(slog.LevelError, "bob", 10*time.Minute, "fib"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if got := levelOf(t, l, "fib"); got != slog.LevelError {
			t.Errorf("nine minutes after the second setting the level is %v", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := levelOf(t, l, "fib"); got != slog.LevelWarn {
			t.Errorf("after its time the level is %v, want the configuration's", got)
		}
		want := []string{
			`WARN msg="log level set" parts=fib to=debug lasts=10m0s by=alice`, `WARN msg="log level set" parts=fib to=error lasts=10m0s by=bob`,
			`WARN msg="log level is the configuration's again" parts=fib to=warn by="its time"`,
		}
		if got := messages(out.String()); !slices.Equal(got, want) {
			t.Errorf("the log has %q, want %q", got, want)
		}
	})
}

// TestAllParts: a setting without a part is of all, and an unknown part changes none.
func TestAllParts(t *testing.T) {
	l := New(io.Discard, slog.LevelInfo, false)
	l.Logger().With("part", "fib")
	if err := l.Set(slog.LevelDebug, "alice", 0, "fib", "fob"); !errors.Is(err, ErrUnknownPart) || !strings.Contains(err.Error(), "agent, fib") {
		t.Errorf("an unknown part: %v", err)
	}
	if got := levelOf(t, l, "fib"); got != slog.LevelInfo {
		t.Errorf("the refused setting made fib %v", got)
	}
	if err := l.Set(slog.LevelDebug, "alice", 0); err != nil {
		t.Fatal(err)
	}
	_, parts := l.Levels()
	for _, p := range parts {
		if p.Level != slog.LevelDebug || p.Set == nil || p.Set.By != "alice" || !p.Set.Until.IsZero() {
			t.Errorf("part %s: %v %+v", p.Name, p.Level, p.Set)
		}
	}
	want := []string{"the log level of all parts is debug until a restart, set by alice; onlinkctl log config returns it to the configuration's"}
	if got := l.Notes(); !slices.Equal(got, want) {
		t.Errorf("notes %q, want %q", got, want)
	}
	if err := l.Clear("bob", "fib"); err != nil {
		t.Fatal(err)
	}
	if fib, main := levelOf(t, l, "fib"), levelOf(t, l, Main); fib != slog.LevelInfo || main != slog.LevelDebug {
		t.Errorf("after clearing fib it has %v and the agent %v", fib, main)
	}
}

// TestRecent: the ring holds whole lines, the latest ones, and no more than its size.
func TestRecent(t *testing.T) {
	var r Recent
	line := func(i int) string { return fmt.Sprintf("line %06d\n", i) }
	const n = 3 * recentSize / 12
	for i := range n {
		fmt.Fprint(&r, line(i))
	}
	var b bytes.Buffer
	if _, err := r.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	got := slices.Collect(strings.Lines(b.String()))
	if b.Len() > recentSize || b.Len() < recentSize-24 {
		t.Errorf("%d bytes are kept, want about %d", b.Len(), recentSize)
	}
	for i, g := range got {
		if want := line(n - len(got) + i); g != want {
			t.Fatalf("line %d is %q, want %q", i, g, want)
		}
	}
	fmt.Fprint(&r, strings.Repeat("x", 2*recentSize), "\n")
	b.Reset()
	if _, err := r.WriteTo(&b); err != nil || b.Len() > recentSize {
		t.Errorf("after a giant line %d bytes are kept (%v)", b.Len(), err)
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	l := New(io.Discard, slog.LevelInfo, false)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			log := l.Logger().With("part", fmt.Sprint("p", i))
			for range 100 {
				log.Info("x")
				l.Levels()
				l.Configure(slog.LevelWarn)
				l.Lines().WriteTo(io.Discard) //nolint:errcheck // it cannot fail
				if err := l.Set(slog.LevelDebug, "me", time.Hour); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestOff: a line of a level that is off costs no memory.
func TestOff(t *testing.T) {
	log := New(io.Discard, slog.LevelInfo, false).Logger().With("part", "fib")
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() { log.Log(ctx, slog.LevelDebug, "route") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
