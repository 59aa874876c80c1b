package config

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"onlink/tools/manual"
)

const configFile = "/etc/onlink/onlinkd.yaml"

// TestManualOfFile: the page of the configuration file is made of the default file, and
// has every key that an agent knows.
func TestManualOfFile(t *testing.T) {
	keys := keysOf(string(DefaultYAML()))
	for _, want := range Keys() {
		if !slices.ContainsFunc(keys, func(k key) bool {
			return k.path == want || strings.HasPrefix(k.path, want+".") || strings.HasPrefix(k.path, want+"[")
		}) {
			t.Errorf("%s is not on the page", want)
		}
	}
	page := manual.Page{
		Name: "onlinkd.yaml", Section: 5, Short: "configuration of the onlink agent",
		Parts: []manual.Part{
			{Title: "SYNOPSIS", Blocks: []manual.Block{{Verbatim: configFile}}},
			{Title: "DESCRIPTION", Blocks: manual.Text(`The file is YAML. Everything in it is optional: without a file, or with an empty one, the agent runs with the defaults below. An unknown key is a mistake, and so is a value out of its bounds: onlinkd --check-config lists all mistakes with file, line, field and remedy, and an agent takes no file with one.

A key in a section or a list is written with dots and brackets here: bgp.peers[].asn is the key asn of an entry of the list peers in the section bgp. Durations have a unit, such as 90s, 1m or 24h. Files with keys and passwords are read by the agent alone: give them the mode 0600.

A running agent takes a changed file by SIGHUP (systemctl reload onlinkd), by onlinkctl config reload, or by itself with reload: watch. Of the keys that need a restart the answer names those that changed.`)},
		},
	}
	page.Parts = append(page.Parts, sections(keys)...)
	page.Parts = append(page.Parts,
		manual.Part{Title: "FILES", Blocks: []manual.Block{{Items: []manual.Item{
			{Term: configFile, Text: "The file; --config names another one."},
			{Term: "/usr/share/doc/onlink/onlinkd.default.yaml", Text: "The defaults with all keys, as onlinkd --print-default-config prints them."},
		}}}},
		manual.Part{Title: "EXAMPLES", Blocks: manual.Text("A node that reflects routes, and keeps the block registry for all:\n\n" + exampleReflector + "\n\nA node of a rack, with its ToR and the reflector:\n\n" + exampleNode)},
		manual.Part{Title: "SEE ALSO", Blocks: []manual.Block{{Text: "onlinkd(8), onlinkctl-config(1), onlink-cni(8)"}}},
	)
	manual.Check(t, "../..", &manual.Reference{
		Name: "onlinkd.yaml", Pages: []manual.Page{page},
		Intro: "Every key of the configuration file, made of `onlinkd --print-default-config`; [bgp](../bgp.md), [routes](../routes.md) and [ipam](../ipam.md) say how to use them.",
	})
	for _, text := range []string{exampleReflector, exampleNode} {
		if _, err := Parse("example", []byte(text)); err != nil {
			t.Errorf("an example of the page: %v", err)
		}
	}
}

const (
	exampleReflector = `  node: {name: a, address: 10.0.0.11}
  bgp:
    reflector: {clients: [10.0.0.0/24]}
  ipam:
    registry:
      kind: bolt
      listen: 10.0.0.11:4790
      tls: {cert: /etc/onlink/a.crt, key: /etc/onlink/a.key, ca: /etc/onlink/ca.crt}`
	exampleNode = `  node: {name: b, address: 10.0.0.12}
  bgp:
    peers:
      - {name: a, address: 10.0.0.11, bfd: {}}
      - name: tor1
        address: 10.0.0.1
        asn: 65001
        import: {accept: [10.0.0.0/8], maxPrefixes: 1000}
  ipam:
    registry:
      kind: grpc
      address: 10.0.0.11:4790
      tls: {cert: /etc/onlink/b.crt, key: /etc/onlink/b.key, ca: /etc/onlink/ca.crt}`
)

// key is a key of the default file: its value there, and the comments at it.
type key struct {
	path, value, text string
	example           bool // the value is an example: the key has no default
}

var (
	keyLine = regexp.MustCompile(`^([A-Za-z0-9]+):(?: +(.*))?$`)
	remark  = regexp.MustCompile(` +# (.*)$`)
)

// frame is a section or an entry of a list that the lines below belong to.
type frame struct {
	indent int
	path   string
}

// keysOf reads the keys of the default file, whose form is regular.
func keysOf(file string) []key {
	var out []key
	var stack []frame
	var above []string // comment lines before a key
	for line := range strings.Lines(file) {
		line = strings.TrimRight(line, "\n")
		isExample := example.MatchString(line)
		if isExample {
			line = strings.Replace(line, "#", "", 1)
		}
		text := strings.TrimLeft(line, " ")
		indent := len(line) - len(text)
		if comment, is := strings.CutPrefix(text, "# "); is || text == "" {
			above = append(above, comment)
			if text == "" {
				above = nil
			}
			continue
		}
		stack = slices.DeleteFunc(stack, func(f frame) bool { return f.indent >= indent })
		if rest, entry := strings.CutPrefix(text, "- "); entry {
			stack = append(stack, frame{indent, stack[len(stack)-1].path + "[]"})
			indent, text = indent+len(text)-len(rest), rest
		}
		if m := remark.FindStringSubmatch(text); m != nil {
			above, text = append(above, m[1]), strings.TrimSuffix(text, m[0])
		}
		if m := keyLine.FindStringSubmatch(text); m != nil {
			path := m[1]
			if len(stack) > 0 {
				path = stack[len(stack)-1].path + "." + path
			}
			path = strings.Replace(path, "bgp.groups.tors", "bgp.groups.NAME", 1)
			out = note(out, key{path, m[2], strings.Join(above, " "), isExample})
			stack = append(stack, frame{indent, path})
		}
		above = nil
	}
	return out
}

// note adds a key, or completes it where the file has it twice.
func note(keys []key, k key) []key {
	n := slices.IndexFunc(keys, func(have key) bool { return have.path == k.path })
	if n < 0 {
		return append(keys, k)
	}
	if keys[n].text == "" {
		keys[n].text = k.text
	}
	if keys[n].value == "" {
		keys[n].value, keys[n].example = k.value, k.example
	}
	return keys
}

// sections makes a part of each section of the file.
func sections(keys []key) []manual.Part {
	var parts []manual.Part
	for _, k := range keys {
		top, _, _ := strings.Cut(strings.ReplaceAll(k.path, "[]", ""), ".")
		if title := "SECTION " + strings.ToUpper(top); len(parts) == 0 || parts[len(parts)-1].Title != title {
			parts = append(parts, manual.Part{Title: title, Blocks: []manual.Block{{}}})
		}
		text := strings.Replace(k.text, "default: ", "Default: ", 1)
		if text != "" && !strings.HasSuffix(text, ".") {
			text += "."
		}
		if k.value != "" {
			word := "Default"
			if k.example {
				word = "Example"
			}
			text = strings.TrimSpace(text + " " + word + ": " + k.value)
		}
		if text == "" {
			continue // a section whose keys follow
		}
		items := &parts[len(parts)-1].Blocks[0].Items
		*items = append(*items, manual.Item{Term: k.path, Text: text})
	}
	return parts
}
