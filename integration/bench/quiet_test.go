package bench

import "testing"

// TestClock reads the first line of proc_stat(5), and the shares between two times.
func TestClock(t *testing.T) {
	before, err := parseClock("cpu  100 20 30 800 40 5 5 0 60 0\ncpu0 1 2 3\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := (clock{all: 1000, used: 160}); before != want {
		t.Errorf("clock %+v, want %+v", before, want)
	}
	after, err := parseClock("cpu 130 20 30 840 50 5 5 20 90 0\n")
	if err != nil {
		t.Fatal(err)
	}
	if used, stolen := after.since(before); used != 30 || stolen != 20 {
		t.Errorf("used %v %%, stolen %v %%, want 30 and 20", used, stolen)
	}
	if used, stolen := before.since(before); used != 0 || stolen != 0 {
		t.Errorf("of no time %v and %v", used, stolen)
	}
	for _, text := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 x 4 5 6 7 8"} {
		if _, err := parseClock(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
