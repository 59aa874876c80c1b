package main

import (
	"strings"
	"testing"
)

// TestBound reads lists as the kernel writes them.
func TestBound(t *testing.T) {
	const list = "   98  31337 0 2 65531     0     0        0  1\n   99   4711 0 2 65531     0     0        3  1\n"
	for number, want := range map[uint64]string{98: "", 99: "", 9: "no program has bound queue 9", 31337: "no program"} {
		err := bound(strings.NewReader(list), number)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("queue %d: %v, want %q", number, err, want)
		}
	}
}
