package strictyaml

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// TestManyMistakes: a file with more mistakes than anybody reads gives a list
// of some and the number of the others; neither the list nor what it takes to
// make it grows with them, nor with what one of them quotes.
func TestManyMistakes(t *testing.T) {
	const many = 150_000
	lines := func(head, line string, n int) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	more := fmt.Sprintf("and %d more errors; correct these first", many-MaxMistakes)
	for _, c := range []struct{ name, text, last string }{
		{"unknown keys", lines("", "k%d: 1\n", many), more},
		{"one key given again", lines("limits: {}\n", "limits: {} #%d\n", many), more},
		{"bad elements", lines("nets:\n", "  - x%d\n", many), more},
		{"just enough", lines("", "k%d: 1\n", MaxMistakes), "web.yaml:100: k99: unknown key; use one of"},
		{"a value of 3 MiB", "mode: " + strings.Repeat("x", 3<<20) + "\n", "web.yaml:1: mode: "},
		{"a key of 3 MiB", "? " + strings.Repeat("x", 3<<20) + "\n: 1\n", "web.yaml:1: xxx"},
		{"a file of 5 MiB", strings.Repeat("x", 5<<20), "web.yaml: larger than 4 MiB; is this the right file?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, d := parseWeb(c.text)
			err := d.Err()
			runtime.GC()
			runtime.ReadMemStats(&after)
			list, ok := errors.AsType[Errors](err)
			if !ok {
				t.Fatalf("got %v, want a list of mistakes", err)
			}
			if len(list) > MaxMistakes+1 || len(err.Error()) > 2*MaxMistakes*maxText {
				t.Errorf("%d mistakes in %d bytes", len(list), len(err.Error()))
			}
			if last := list[len(list)-1].Error(); !strings.Contains(last, c.last) {
				t.Errorf("the last line is %.200q, want %q", last, c.last)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 300<<20 {
				t.Errorf("%d MiB were taken for a file of %d MiB", took>>20, len(c.text)>>20)
			}
			runtime.KeepAlive(list)
		})
	}
}

// TestSuggest: the word that was meant, also cut short or in other letters, and
// never one that is far off.
func TestSuggest(t *testing.T) {
	t.Parallel()
	known := []string{"address", "asn", "port"}
	for word, want := range map[string]string{
		"adddress": "address", "ADDRESS": "address", "addr": "address", "prot": "port", "ans": "", "x": "", "": "", strings.Repeat("port", 99): "",
	} {
		hint := "use one of address, asn, port"
		if want != "" {
			hint = fmt.Sprintf("did you mean %q?", want)
		}
		if got := Suggest(word, known); got != hint {
			t.Errorf("%q: %s, want %s", word, got, hint)
		}
	}
}
