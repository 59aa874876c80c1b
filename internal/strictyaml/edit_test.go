package strictyaml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const edited = `# the front
web:
  workers: 3
  servers:
    # behind the load balancer
    - {name: one, port: 81} # ticket 4711
    - host: two.example
`

// by are the keys that name a server.
var by = []string{"name", "host"}

func TestApply(t *testing.T) {
	t.Parallel()
	put := func(name, entry string) Edit { return Edit{List: "web.servers", By: by, Name: name, Entry: entry} }
	for _, c := range []struct {
		name, text string
		edits      []Edit
		want       string
	}{
		{"replace", edited, []Edit{put("one", "{name: one, port: 82}")}, strings.Replace(edited, "{name: one, port: 81} # ticket 4711", "{name: one, port: 82}", 1)},
		{"remove by the second key, append", edited, []Edit{put("two.example", ""), put("x", "name: x\nport: 7\n")}, strings.Replace(edited, "- host: two.example", "- name: x\n      port: 7", 1)},
		{"another list", edited, []Edit{{List: "rules", By: by, Name: "r", Entry: "{name: r}"}}, edited + "rules:\n  - {name: r}\n"},
		{"no file", "", []Edit{put("a", "{name: a}")}, "web:\n  servers:\n    - {name: a}\n"},
		{"only a comment", "# nothing\n", []Edit{put("a", "{name: a}")}, "# nothing\nweb:\n  servers:\n    - {name: a}\n"},
		{"an empty list", "web:\n  servers:\n", []Edit{put("a", "{name: a}")}, "web:\n  servers:\n    - {name: a}\n"},
		{"a name that another entry has as its second key", "web: {servers: [{name: a, host: b}, {name: b}]}\n", []Edit{put("b", "")}, "web: {servers: [{name: a, host: b}]}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Apply([]byte(c.text), c.edits)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, string(got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, entry, want string }{
		{"absent", edited, "", "there is no such entry"},
		{"twice", "web: {servers: [{name: a}, {name: a}]}", "{name: a}", "several"},
		{"not YAML", "web: [", "{name: a}", "not valid YAML"},
		{"not a mapping", "- a", "{name: a}", "not a mapping"},
		{"not a list", "web: {servers: 7}", "{name: a}", "another kind"},
		{"an alias", "x: &x [{name: a}]\nweb: {servers: *x}", "{name: a}", "is an alias"},
		{"an entry that is a list", edited, "- a", "not a mapping"},
		{"an entry that is not YAML", edited, "{", "not valid YAML"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, err := Apply([]byte(c.text), []Edit{{List: "web.servers", By: by, Name: "a", Entry: c.entry}})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "web.servers \"a\": ") && c.name != "not YAML" {
				t.Errorf("error %v, want %q; text %q", err, c.want, text)
			}
		})
	}
}

func TestEntryName(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{"{name: a, host: b}": "a", "host: b": "b", "{port: 7}": "", "- a": "", "": "", "{": ""} {
		got, err := EntryName(entry, by...)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", entry, got, err, want)
		}
	}
}
