package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestDrain: leaving lasts as long as asked and ends by itself; a drained node
// is drained after a restart, one that was brought back is not; a request that
// another one overtook does not wait for ever.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, err := openDrain(dir)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(d *drain, want phase) {
			t.Helper()
			if got, _ := d.now(); got != want {
				t.Errorf("phase %s, want %s", got, want)
			}
		}
		expect(d, serving)
		if err := d.start(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		<-d.changed
		time.Sleep(9 * time.Second)
		expect(d, leaving)
		told := make(chan error, 1)
		go func() { told <- d.await(t.Context(), drained) }()
		time.Sleep(2 * time.Second)
		expect(d, drained)
		d.announced(drained, 0)
		if err := <-told; err != nil {
			t.Errorf("await: %v", err)
		}
		again, err := openDrain(dir)
		if err != nil {
			t.Fatal(err)
		}
		expect(again, drained)
		go func() { told <- again.await(t.Context(), serving) }()
		if err := <-told; !errors.Is(err, errOvertaken) {
			t.Errorf("await of what nobody asked for: %v", err)
		}
		if err := again.end(); err != nil {
			t.Fatal(err)
		}
		again.announced(serving, 3)
		if p, n := again.state(); p != serving || n != 3 {
			t.Errorf("%s with %d prefixes", p, n)
		}
		last, err := openDrain(dir)
		if err != nil {
			t.Fatal(err)
		}
		expect(last, serving)
	})
}
