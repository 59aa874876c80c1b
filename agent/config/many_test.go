package config

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"onlink/internal/strictyaml"
)

// TestManyMistakes: a file with very many mistakes gives a list of the first and
// the number of the others; neither the list nor the cost of making it grows with
// their number, nor with the length of a quoted text.
func TestManyMistakes(t *testing.T) {
	const (
		many    = 150_000
		maxText = 600 // of one mistake
	)
	lines := func(head, line string, n int) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	for _, c := range []struct {
		name, text string
		more       string // the last line
	}{
		{"unknown keys", lines("", "k%d: 1\n", many), fmt.Sprintf("and %d more errors; correct these first", many-strictyaml.MaxMistakes)},
		{"one key given again", lines("log: {}\n", "log: {} #%d\n", many), fmt.Sprintf("and %d more errors; correct these first", many-strictyaml.MaxMistakes)},
		{"bad elements", lines("bgp:\n  originate:\n", "  - x%d\n", many), fmt.Sprintf("and %d more errors; correct these first", many-strictyaml.MaxMistakes)},
		{"just enough", lines("", "k%d: 1\n", strictyaml.MaxMistakes), `f:100: k99: unknown key; use one of`},
		{"a value of 3 MiB", "log: {level: " + strings.Repeat("x", 3<<20) + "}\n", "f:1: log.level: "},
		{"a key of 3 MiB", "? " + strings.Repeat("x", 3<<20) + "\n: 1\n", "f:1: xxx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := Parse("f", []byte(c.text))
			runtime.GC()
			runtime.ReadMemStats(&after)
			var list Errors
			if !errors.As(err, &list) {
				t.Fatalf("got %v, want a list of mistakes", err)
			}
			if len(list) > strictyaml.MaxMistakes+1 || len(err.Error()) > 2*strictyaml.MaxMistakes*maxText {
				t.Errorf("%d mistakes in %d bytes", len(list), len(err.Error()))
			}
			if last := list[len(list)-1].Error(); !strings.Contains(last, c.more) {
				t.Errorf("the last line is %.200q, want %q", last, c.more)
			}
			if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 8<<20 {
				t.Errorf("%d MiB are kept for the list", kept>>20)
			}
			runtime.KeepAlive(list)
			if took := after.TotalAlloc - before.TotalAlloc; took > 300<<20 {
				t.Errorf("%d MiB were taken for a file of %d MiB", took>>20, len(c.text)>>20)
			}
		})
	}
}
