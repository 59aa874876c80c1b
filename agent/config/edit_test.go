package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/config"
)

const edited = `# the ToRs
bgp:
  asn: 64512
  peers:
    # uplink of rack 1
    - {name: tor1, address: 10.57.0.1, asn: 65001} # ticket 4711
    - address: 10.57.0.10
`

func TestApply(t *testing.T) {
	t.Parallel()
	put := func(list config.EditList, name, entry string) config.Edit {
		return config.Edit{List: list, Name: name, Entry: entry}
	}
	tests := []struct {
		name, text string
		edits      []config.Edit
		want       string
	}{
		{"replace", edited, []config.Edit{put(config.EditPeers, "tor1", "{name: tor1, address: 10.57.0.1, asn: 65009}")}, `# the ToRs
bgp:
  asn: 64512
  peers:
    # uplink of rack 1
    - {name: tor1, address: 10.57.0.1, asn: 65009}
    - address: 10.57.0.10
`},
		{"remove by address, add", edited, []config.Edit{
			put(config.EditPeers, "10.57.0.10", ""),
			put(config.EditFilters, "f", "name: f\nrules:\n  - action: reject\n"),
		}, `# the ToRs
bgp:
  asn: 64512
  peers:
    # uplink of rack 1
    - {name: tor1, address: 10.57.0.1, asn: 65001} # ticket 4711
  filters:
    - name: f
      rules:
        - action: reject
`},
		{"empty file", "", []config.Edit{put(config.EditPeers, "a", "{name: a}")}, "bgp:\n  peers:\n    - {name: a}\n"},
		{"empty list", "bgp:\n  peers:\n", []config.Edit{put(config.EditPeers, "a", "{name: a}")}, "bgp:\n  peers:\n    - {name: a}\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := config.Apply([]byte(tt.text), tt.edits)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, string(got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	entry := "{name: a}"
	tests := []struct {
		name, text string
		edit       config.Edit
		want       string
	}{
		{"absent", edited, config.Edit{List: config.EditPeers, Name: "tor2"}, "no such entry"},
		{"twice", "bgp: {peers: [{name: a}, {name: a}]}", config.Edit{List: config.EditPeers, Name: "a", Entry: entry}, "several"},
		{"not YAML", "bgp: [", config.Edit{List: config.EditPeers, Name: "a", Entry: entry}, "not valid YAML"},
		{"not a mapping", "- a", config.Edit{List: config.EditPeers, Name: "a", Entry: entry}, "not a mapping"},
		{"not a list", "bgp: {peers: 7}", config.Edit{List: config.EditPeers, Name: "a", Entry: entry}, "another kind"},
		{"bad entry", edited, config.Edit{List: config.EditPeers, Name: "a", Entry: "- a"}, "not a mapping"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if text, err := config.Apply([]byte(tt.text), []config.Edit{tt.edit}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q; text %q", err, tt.want, text)
			}
		})
	}
	if _, err := config.EntryName("{asn: 1}"); err == nil {
		t.Error("an entry without a name has one")
	}
}

// TestDraft: a draft changes nothing until it is kept; then the file has its text
// and its own mode, and a link to it is still one.
func TestDraft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "onlinkd.yaml"), filepath.Join(dir, "link.yaml")
	if err := errors.Join(os.WriteFile(path, []byte("old"), 0o640), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	f := config.File{Path: link}
	want := func(text string, files int) {
		t.Helper()
		got, err := f.Text()
		list, listErr := os.ReadDir(dir)
		if err != nil || listErr != nil || string(got) != text || len(list) != files {
			t.Errorf("text %q of %d files, errors %v, %v; want %q of %d", got, len(list), err, listErr, text, files)
		}
	}
	d, err := f.Draft([]byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	want("old", 3)
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	want("old", 2)
	if d, err = f.Draft([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := d.Keep(); err != nil {
		t.Fatal(err)
	}
	want("new", 2)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if info, err = os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, error %v", info.Mode(), err)
	}
	if text, err := (config.File{Path: filepath.Join(dir, "none"), Optional: true}).Text(); err != nil || text != nil {
		t.Errorf("an optional file that is not there: %q, %v", text, err)
	}
}
