package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/config"
)

// withKeys is a configuration whose peers have keys in a state folder.
func withKeys(state string, names ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "paths: {state: %q}\nbgp:\n  peers:\n", state)
	for i, n := range names {
		fmt.Fprintf(&text, "  - {address: 10.0.0.%d, passwordFile: %s/keys/%s}\n", i+1, state, n)
	}
	return text.String()
}

// files are the names and contents of a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v), want 0600: it is a secret", e.Name(), info.Mode(), err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// TestKeys: the key files of a text are there before the parts read them, those of
// a rejected change are as before also when the parts go back, and those that no
// text names are gone.
func TestKeys(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	dir := filepath.Join(state, "keys")
	r, held, _ := guarded(t, fmt.Sprintf("paths: {state: %q}\n", state))
	var saw []map[string]string
	refuse := false
	r.parts = Parts{{Name: "bgp.peers", Keys: []string{"bgp.peers"}, Apply: func(_ context.Context, next *config.Effective) error {
		saw = append(saw, files(t, dir))
		if refuse && len(next.BGP.Peers) == 3 {
			return ErrRestart
		}
		return nil
	}}}
	change := func(names []string, keys ...Key) (Outcome, error) {
		saw = nil
		return r.Change(t.Context(), Edit{Guard: true, Keys: keys, Make: to(withKeys(state, names...))})
	}
	want := func(what string, got, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	key := func(name, content string) Key { return Key{name, []byte(content)} }

	if _, err := change([]string{"a", "b"}, key("a", "1"), key("b", "2"), key("unnamed", "3")); err != nil {
		t.Fatal(err)
	}
	both := map[string]string{"a": "1", "b": "2"}
	want("what the part read", saw[0], both)
	want("the folder", files(t, dir), both)

	refuse = true
	if _, err := change([]string{"a", "b", "c"}, key("a", "other"), key("c", "4")); !errors.Is(err, ErrRestart) {
		t.Fatal(err)
	}
	want("what the part read", saw[0], map[string]string{"a": "other", "b": "2", "c": "4"})
	want("what it read to go back", saw[1], both)
	want("the folder after a refusal", files(t, dir), both)

	out, err := change(nil)
	if err != nil || out.Held == nil || len(saw) != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	want("the folder while the change is held", files(t, dir), both)
	if _, err := held.Confirm(t.Context(), out.Held.Digest); err != nil {
		t.Fatal(err)
	}
	want("the folder after it was confirmed", files(t, dir), map[string]string{})

	refuse = false
	if _, err := change([]string{"a"}, key("a", "1")); err != nil {
		t.Fatal(err)
	}
	first, err := change([]string{"a"}, key("a", "2")) // the text is the same
	if err != nil || first.Changed {
		t.Fatalf("%+v, %v", first, err)
	}
	want("another key of the same text", files(t, dir), map[string]string{"a": "2"})
}

// TestKeyNames: a name cannot leave the folder, and the keys of a request are
// bounded.
func TestKeyNames(t *testing.T) {
	t.Parallel()
	many := make([]Key, maxKeys+1)
	for i := range many {
		many[i].Name = strconv.Itoa(i)
	}
	for _, keys := range [][]Key{
		{{Name: ""}},
		{{Name: "."}},
		{{Name: ".."}},
		{{Name: "../x"}},
		{{Name: "a/b"}},
		{{Name: "/etc/passwd"}},
		{{Name: ".hidden"}},
		{{Name: "a\x00b"}},
		{{Name: "a b"}},
		{{Name: "a\n"}},
		{{Name: strings.Repeat("x", 129)}},
		{{Name: "é"}},
		{{Name: "a"}, {Name: "a"}},
		{{Name: "a", Content: make([]byte, maxKeySize+1)}},
		many,
	} {
		var log []string
		r, path := kept(t, onePeer, &log)
		if _, err := r.Change(t.Context(), Edit{Keys: keys, Make: to(twoPeers)}); !errors.Is(err, ErrKey) {
			t.Errorf("%.100q: %v", keys[0].Name, err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != onePeer {
			t.Errorf("the file is %q, %v", text, err)
		}
	}
	if err := checkKeys([]Key{{Name: "peer-tor_1.key"}, {Name: "A"}}); err != nil {
		t.Error(err)
	}
}
