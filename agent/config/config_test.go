package config

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"onlink/internal/strictyaml"
)

// compare treats netip's values as such.
var compare = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})}

func TestDefaultYAMLIsDefault(t *testing.T) {
	t.Parallel()
	got, err := Parse("onlinkd.yaml", DefaultYAML())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, compare); diff != "" {
		t.Errorf("the printed default differs from Default() (-want +got):\n%s", diff)
	}
}

func TestEmptyFileIsDefault(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "\n", "# nothing\n", "---\n", "{}", "null", "bgp:\npools:\nnode:\n  name:\n"} {
		got, err := Parse("onlinkd.yaml", []byte(data))
		if err != nil {
			t.Errorf("%q: %v", data, err)
			continue
		}
		if diff := cmp.Diff(Default(), got, compare); diff != "" {
			t.Errorf("%q differs from Default() (-want +got):\n%s", data, diff)
		}
	}
}

// example matches a commented key of the default file: "#" that is not
// followed by exactly one space.
var example = regexp.MustCompile(`(?m)^( *)#(?: {2,}|)[^ \n]`)

// examples is the default file with its examples turned into keys.
func examples() []byte {
	var text strings.Builder
	for line := range strings.Lines(string(DefaultYAML())) {
		if example.MatchString(line) {
			line = strings.Replace(line, "#", "", 1)
		}
		text.WriteString(line)
	}
	return []byte(text.String())
}

// schemaKeys are the keys of the file, those of a list's elements as pools[].cidr.
func schemaKeys() []string {
	return strictyaml.Keys(func(v strictyaml.Value) { readConfig(v, Default()) })
}

// given collects the keys in a file's value, by path without list indexes.
func given(path string, value any, keys map[string]bool) {
	keys[path] = true
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			given(strictyaml.Join(path, key), v, keys)
		}
	case []any:
		for _, v := range value {
			given(path+"[]", v, keys)
		}
	}
}

// mentioned reports whether a key is among those given. The long form of an
// element, such as {prefix, ge, le}, is shown in one list of a name and used in
// several.
func mentioned(key string, keys map[string]bool) bool {
	list := strings.LastIndex(key, "[].")
	if keys[key] || list < 0 || !keys[key[:list]] {
		return keys[key]
	}
	form := key[strings.LastIndexByte(key[:list], '.'):]
	for other := range keys {
		if strings.HasSuffix(other, form) {
			return true
		}
	}
	return false
}

// TestDefaultYAMLMentionsEveryKey: the examples of the default file have every
// key of the schema.
func TestDefaultYAMLMentionsEveryKey(t *testing.T) {
	t.Parallel()
	var file map[string]any
	if err := yaml.Unmarshal(examples(), &file); err != nil {
		t.Fatalf("the examples are not YAML: %v\n%s", err, examples())
	}
	keys := map[string]bool{}
	given("", file, keys)
	schema := schemaKeys()
	for _, key := range schema {
		if !mentioned(key, keys) {
			t.Errorf("%s is not in the default file", key)
		}
	}
	if len(schema) < 140 {
		t.Errorf("the schema offers only %d keys", len(schema))
	}
	_, doc := read("all", examples(), Override{})
	list, _ := errors.AsType[Errors](doc.Err())
	// The one contradiction of the examples: several kinds of registry.
	want := []string{"ipam.registry.user"}
	var got []string
	for _, e := range list {
		got = append(got, e.Field)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes in the examples (-want +got):\n%s\n%v", diff, list)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "onlinkd.yaml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrInvalid) {
		t.Errorf("a missing file gives %v", err)
	}
	if err := os.WriteFile(path, []byte("bgp: {asn: 65010}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.BGP.ASN != 65010 {
		t.Errorf("asn %d", c.BGP.ASN)
	}
	if err := os.WriteFile(path, []byte("bgp: {asn: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(path)
	var one *Error
	if !errors.Is(err, ErrInvalid) || !errors.As(err, &one) || one.File != path || one.Line != 1 || one.Field != "bgp.asn" {
		t.Errorf("a bad file gives %v", err)
	}
}

// TestMistakes runs every testdata/*.txt: a file, a line "-- errors --" and
// the exact messages that it gives.
func TestMistakes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("only %d scenario files: %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			input, want, found := strings.Cut(string(text), "-- errors --\n")
			if !found {
				t.Fatal("no line -- errors --")
			}
			_, err = Parse("onlinkd.yaml", []byte(input))
			got := ""
			if err != nil {
				got = err.Error() + "\n"
				if _, ok := errors.AsType[Errors](err); !ok {
					t.Errorf("the error is a %T", err)
				}
			}
			if *update {
				if err := os.WriteFile(name, []byte(input+"-- errors --\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			for line := range strings.Lines(got) {
				if !strings.ContainsAny(line, ";?") {
					t.Errorf("no fix in %q", line)
				}
			}
		})
	}
}

func TestErrorsAreInOrderOfLines(t *testing.T) {
	t.Parallel()
	_, err := Parse("f", []byte("pools: [{name: a, cidr: x}]\nbgp: {asn: 0}\nnode: {nam: a}\nlog: {level: loud}\n"))
	var list Errors
	if !errors.As(err, &list) || len(list) != 4 {
		t.Fatalf("got %v", err)
	}
	if !slices.IsSortedFunc(list, func(a, b *Error) int { return a.Line - b.Line }) {
		t.Errorf("not in order:\n%v", err)
	}
}
