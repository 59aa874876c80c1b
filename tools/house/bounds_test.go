package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBounds holds the tree to the goals, and what has not reached them to
// bounds.txt.
func TestBounds(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	figures := measure(tree)
	present, err := parseBounds(boundsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range figures {
		b := present.of(f)
		switch {
		case !f.within(b):
			t.Errorf("%s is %s, bound %s, goal %s:\n\t%s\ngo doc ./tools/house says what is counted",
				f.name, f.text(f.value), f.text(b), f.text(f.goal), strings.Join(f.counted, "\n\t"))
		case f.better(b):
			t.Logf("%s is %s, better than its bound %s: go run ./tools/house -tighten", f.name, f.text(f.value), f.text(b))
		}
	}
	known := map[string]bool{}
	for _, f := range figures {
		known[f.name] = true
	}
	for name := range present {
		if !known[name] {
			t.Logf("bounds.txt has %s, which is no figure: go run ./tools/house -tighten", name)
		}
	}
}

func TestParseBounds(t *testing.T) {
	in := "# head\n\na/b 3\nc 0.5 # half\n"
	got, err := parseBounds(in)
	if diff := cmp.Diff(bounds{"a/b": 3, "c": 0.5}, got); diff != "" || err != nil {
		t.Errorf("error %v, (-want +got):\n%s", err, diff)
	}
	again, err := parseBounds(got.String())
	if diff := cmp.Diff(got, again); diff != "" || err != nil {
		t.Errorf("written and read again: error %v, (-want +got):\n%s", err, diff)
	}
	for in, want := range map[string]string{
		"a":          "bounds.txt:1: want a name and a number",
		"a b":        "bounds.txt:1:",
		"a 1\na 2\n": "bounds.txt:2: a is bounded twice",
		"a 1 2":      "bounds.txt:1: want a name and a number",
	} {
		if _, err := parseBounds(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", in, err, want)
		}
	}
}

// TestTightened: a bound moves towards the goal only, and goes when the goal is
// reached.
func TestTightened(t *testing.T) {
	figures := []figure{
		{name: "better", value: 50, goal: 40},
		{name: "worse", value: 70, goal: 40},
		{name: "reached", value: 39, goal: 40},
		{name: "unbounded", value: 41, goal: 40},
		{name: "more", value: 0.3, goal: 0.5, atLeast: true},
		{name: "less", value: 0.1, goal: 0.5, atLeast: true},
		{name: "enough", value: 0.6, goal: 0.5, atLeast: true},
	}
	was := bounds{"better": 60, "worse": 60, "reached": 60, "more": 0.2, "less": 0.2, "enough": 0.2, "gone": 3}
	want := bounds{"better": 50, "worse": 60, "more": 0.3, "less": 0.2}
	if diff := cmp.Diff(want, was.tightened(figures)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWithin(t *testing.T) {
	tests := []struct {
		name         string
		f            figure
		bound        float64
		within, more bool // keeps the bound; is better than it
	}{
		{"at the bound", figure{value: 5, goal: 3}, 5, true, false},
		{"beyond", figure{value: 6, goal: 3}, 5, false, false},
		{"better", figure{value: 4, goal: 3}, 5, true, true},
		{"at the goal", figure{value: 3, goal: 3}, 3, true, false},
		{"beyond the goal", figure{value: 1, goal: 3}, 3, true, false},
		{"at least, at the bound", figure{value: 0.2, goal: 0.5, atLeast: true}, 0.2, true, false},
		{"at least, below", figure{value: 0.1, goal: 0.5, atLeast: true}, 0.2, false, false},
		{"at least, above", figure{value: 0.3, goal: 0.5, atLeast: true}, 0.2, true, true},
		{"an identity that is defined nowhere", figure{value: 0, goal: 1, exact: true}, 2, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.f.within(tt.bound); got != tt.within {
				t.Errorf("within %t, want %t", got, tt.within)
			}
			if got := tt.f.better(tt.bound); got != tt.more {
				t.Errorf("better %t, want %t", got, tt.more)
			}
		})
	}
}
