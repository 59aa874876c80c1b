package strictyaml

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seeds adds the files of the scenarios.
func seeds(f *testing.F) []string {
	f.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	var out []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(text), "-- errors --\n")
		out = append(out, input)
	}
	return out
}

// FuzzParse wants that Parse never panics, and that every error is a bounded
// list of mistakes, each with a text, in the order of the lines.
func FuzzParse(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		c, d := parseWeb(data)
		err := d.Err()
		if err == nil {
			if c.Workers > 64 || c.Mode != "" && c.Mode != "safe" && c.Mode != "fast" {
				t.Errorf("accepted out of range: %+v", c)
			}
			return
		}
		list, ok := errors.AsType[Errors](err)
		if !ok || len(list) == 0 || len(list) > MaxMistakes+1 {
			t.Fatalf("error %T with %d mistakes", err, len(list))
		}
		line := 0
		for _, e := range list[:min(len(list), MaxMistakes)] {
			if e.Text == "" || e.File == "" || len(e.Text) > maxText || len(e.Field) > maxField || e.Line < line {
				t.Errorf("mistake %+v after line %d", e, line)
			}
			line = e.Line
		}
	})
}

// FuzzApply wants that Apply never panics, and that what it makes can be edited
// again: the entry that was put in can be removed.
func FuzzApply(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, "name: new\nport: 7\n")
	}
	f.Add("servers: [{name: a}]\n", "{name: new}")
	f.Fuzz(func(t *testing.T, text, entry string) {
		name, err := EntryName(entry, "name")
		if err != nil {
			return
		}
		put := Edit{List: "web.servers", By: []string{"name"}, Name: name, Entry: entry}
		out, err := Apply([]byte(text), []Edit{put})
		if err != nil {
			return
		}
		if _, err := Apply(out, []Edit{{List: put.List, By: put.By, Name: name}}); err != nil {
			t.Errorf("the entry that was put into %q cannot be removed from %q: %v", text, out, err)
		}
	})
}
