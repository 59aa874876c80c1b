package drain

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDrain: Leaving lasts as long as asked and ends by itself; a Drained node
// is Drained after a restart, one that was brought back is not; a request that
// another one overtook does not wait for ever.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(d *Drain, want Phase) {
			t.Helper()
			if got, _ := d.Now(); got != want {
				t.Errorf("phase %s, want %s", got, want)
			}
		}
		expect(d, Serving)
		if err := d.Start(10*time.Second, "alice"); err != nil {
			t.Fatal(err)
		}
		<-d.changed
		time.Sleep(9 * time.Second)
		expect(d, Leaving)
		told := make(chan error, 1)
		go func() { told <- d.Await(t.Context(), Drained) }()
		time.Sleep(2 * time.Second)
		expect(d, Drained)
		d.Announced(Drained, 0)
		if err := <-told; err != nil {
			t.Errorf("await: %v", err)
		}
		again, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		expect(again, Drained)
		go func() { told <- again.Await(t.Context(), Serving) }()
		if err := <-told; !errors.Is(err, ErrOvertaken) {
			t.Errorf("await of what nobody asked for: %v", err)
		}
		if err := again.End(); err != nil {
			t.Fatal(err)
		}
		again.Announced(Serving, 3)
		if p, n := again.State(); p != Serving || n != 3 {
			t.Errorf("%s with %d prefixes", p, n)
		}
		last, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		expect(last, Serving)
	})
}

// TestLeaving: a second request only changes the wait of a node that leaves, and
// none that of a node that has left.
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		start := func(wait time.Duration, phase Phase, rest time.Duration) {
			t.Helper()
			if err := d.Start(wait, "alice"); err != nil {
				t.Fatal(err)
			}
			if p, r := d.Now(); p != phase || r != rest {
				t.Errorf("%s for %v, want %s for %v", p, r, phase, rest)
			}
		}
		start(time.Minute, Leaving, time.Minute)
		time.Sleep(50 * time.Second)
		start(30*time.Second, Leaving, 30*time.Second)
		start(0, Drained, 0)
		start(time.Minute, Drained, 0)
		if got := []string{Serving.String(), Leaving.String(), Drained.String()}; got[0] != "serving" || got[1] != "leaving" || got[2] != "drained" {
			t.Errorf("phases are shown as %q", got)
		}
	})
}

// TestAwait: who waits for what is announced is told so, or why it will not be.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Await(t.Context(), Serving); err != nil {
			t.Errorf("what is announced already: %v", err)
		}
		if err := d.Start(time.Minute, "alice"); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		await := func(ctx context.Context, p Phase) {
			go func() { ended <- d.Await(ctx, p) }()
			synctest.Wait()
		}
		await(t.Context(), Drained)
		d.Announced(Leaving, 3) // not yet
		synctest.Wait()
		if len(ended) > 0 {
			t.Fatalf("ended while the node leaves: %v", <-ended)
		}
		if err := d.End(); err != nil {
			t.Fatal(err)
		}
		d.Announced(Serving, 3)
		if err := <-ended; !errors.Is(err, ErrOvertaken) {
			t.Errorf("brought back meanwhile: %v", err)
		}
		if err := d.Start(0, "alice"); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		await(ctx, Drained)
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nothing is announced: %v", err)
		}
	})
}

// TestStateFolder: a request that cannot be kept over a restart is refused, and
// the node stays as it is.
func TestStateFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(time.Minute, "alice"); err == nil || !strings.HasPrefix(err.Error(), "write drain state: ") {
		t.Errorf("start: %v", err)
	}
	if p, _ := d.Now(); p != Serving {
		t.Errorf("the node is %s", p)
	}
	if err := d.End(); err == nil || !strings.HasPrefix(err.Error(), "remove drain state: ") {
		t.Errorf("end: %v", err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.HasPrefix(err.Error(), "read drain state: ") {
		t.Errorf("a file in the folder's place: %v", err)
	}
}

// TestCause: who took the node out first is known, also after a restart, until it serves
// again; the empty mark of an earlier version names nobody.
func TestCause(t *testing.T) {
	dir := t.TempDir()
	open := func() *Drain {
		t.Helper()
		d, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open()
	if got := d.Cause(); got != (Cause{}) || got.String() != "" {
		t.Errorf("of a node that serves: %+v", got)
	}
	before := time.Now().Truncate(time.Second)
	for _, by := range []string{"root (uid 0, pid 7)", "bob"} {
		if err := d.Start(time.Minute, by); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []*Drain{d, open()} {
		got := d.Cause()
		if got.By != "root (uid 0, pid 7)" || got.Since.Before(before) || time.Since(got.Since) > time.Minute {
			t.Errorf("%+v", got)
		}
		if want := " since " + got.Since.UTC().Format(time.RFC3339) + " by root (uid 0, pid 7)"; got.String() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if err := d.End(); err != nil {
		t.Fatal(err)
	}
	if got := d.Cause(); got != (Cause{}) {
		t.Errorf("of a node that serves again: %+v", got)
	}
	for _, mark := range []string{"", "nonsense\n"} {
		if err := os.WriteFile(filepath.Join(dir, "drained"), []byte(mark), 0o600); err != nil {
			t.Fatal(err)
		}
		if d := open(); d.phase != Drained || d.Cause() != (Cause{}) {
			t.Errorf("mark %q: %s, %+v", mark, d.phase, d.Cause())
		}
	}
}
