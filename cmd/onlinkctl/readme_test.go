package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReadmeTables: the tables of README.md have the columns that the commands
// print.
func TestReadmeTables(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for command, golden := range map[string]string{
		"peers": "peers", "routes": "routes", "blocks --all": "blocks_all", "ipam show": "ipam_show", "explain 10.244.64.0": "explain",
	} {
		_, rest, ok := strings.Cut(string(readme), "\n# onlinkctl "+command+"\n")
		if !ok {
			t.Errorf("no table of %q", command)
			continue
		}
		want, err := os.ReadFile(filepath.Join("testdata", golden+".golden"))
		if err != nil {
			t.Fatal(err)
		}
		found++
		if got, want := columns(rest), columns(string(want)); !slices.Equal(got, want) {
			t.Errorf("%s: README.md has the columns %q, it prints %q", command, got, want)
		}
	}
	if found == 0 {
		t.Error("no table at all")
	}
}

// columns returns the headers of a table's first line.
func columns(text string) (list []string) {
	line, _, _ := strings.Cut(text, "\n")
	for c := range strings.SplitSeq(line, "   ") {
		if c = strings.TrimSpace(c); c != "" {
			list = append(list, c)
		}
	}
	return list
}
