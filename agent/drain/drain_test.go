package drain

import (
	"errors"
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
		if err := d.Start(10 * time.Second); err != nil {
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
