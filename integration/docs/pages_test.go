package docs

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"onlink/integration/labtest"
	"onlink/kube/api/v1alpha1"
)

// program matches a line that begins with a program of ours, or one that operators use
// beside them.
var program = regexp.MustCompile(`(?m)^([#$] )?(sudo )?(onlinkd|onlinkctl|onlink-kube|systemctl|make|kubectl|helm|ip|nft|birdc|vtysh|promtool|apt-get|dnf|install|scp|etcdctl) \S`)

// TestBlocks: every code block of every page says what it is. Commands run or say why
// not, files of programs are read by them, and what is only to be looked at holds no
// command.
func TestBlocks(t *testing.T) {
	t.Parallel()
	commands, files := 0, 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			switch {
			case b.On != "" && p.bed.Kind == "":
				t.Errorf("%s: the block runs on %s, but the page names no hosts: write <!-- bed: rack --> into its first line", b.Where(), b.On)
			case b.NotRun != "", b.Check == "run": // the command that follows reads it
			case b.Language == "text":
				if line := program.FindString(b.Text); line != "" {
					t.Errorf("%s: a command (%q) in a block of language text: write sh or console, and %s", b.Where(), line, howToRun(p))
				}
			case b.Language == "sh" || b.Language == "console":
				commands++
				if b.On == "" {
					t.Errorf("%s: the block neither runs nor says why not: write ```%s and %s", b.Where(), b.Language, howToRun(p))
				}
			default:
				files++
				if err := read(t, b); err != nil {
					t.Errorf("%s: %v\nif it is for another program than ```%s means, write yaml check=objects, yaml check=prometheus, text, or %s not-run: REASON (CONTRIBUTING.md, \"A page\")", b.Where(), err, b.Language, b.Language)
				}
			}
		}
	}
	if commands < 30 || files < 15 {
		t.Errorf("only %d blocks of commands and %d files", commands, files)
	}
}

// howToRun says what stands behind the language of a block of commands on that page.
func howToRun(p page) string {
	where := "on=r1n1, or another host of this page's bed"
	if p.bed.Kind == "" {
		where = "on=r1n1, with <!-- bed: rack --> in the first line of the page"
	}
	return "behind it not-run: REASON (such as needs a cluster), or " + where + " (CONTRIBUTING.md, \"A page\")"
}

// read has the program that a file is for read it.
func read(t *testing.T, b *Block) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file."+b.Language)
	labtest.Must(t, os.WriteFile(file, []byte(b.Text), 0o644))
	check := b.Check
	if check == "" {
		check = b.Language
	}
	switch check {
	case "yaml":
		return execute(t.Context(), filepath.Join(labtest.Bin(), "onlinkd"), "--check-config", "--file-only", "--config", file)
	case "objects":
		return decode(b.Text)
	case "prometheus":
		return execute(t.Context(), "promtool", "check", "config", "--syntax-only", file)
	case "bird":
		return execute(t.Context(), "/usr/sbin/bird", "-p", "-c", file)
	case "frr":
		return execute(t.Context(), "vtysh", "--dryrun", "--inputfile", file)
	case "env":
		return execute(t.Context(), "sh", "-n", file)
	case "json":
		if !json.Valid([]byte(b.Text)) {
			return errors.New("no JSON")
		}
		return nil
	}
	return errors.New("no program of this test reads " + check)
}

func execute(ctx context.Context, argv ...string) error {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}

// decode reads objects of group onlink.io as the API server does, strictly.
func decode(text string) error {
	for text := range strings.SplitSeq(text, "\n---\n") {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			return err
		}
		object, ok := map[string]any{
			"OnlinkConfig": new(v1alpha1.OnlinkConfig), "BGPPeer": new(v1alpha1.BGPPeer), "BGPFilter": new(v1alpha1.BGPFilter),
			"IPPool": new(v1alpha1.IPPool), "ServiceAdvertisement": new(v1alpha1.ServiceAdvertisement),
		}[head.Kind]
		if !ok || head.APIVersion != "onlink.io/v1alpha1" {
			return errors.New("no object of onlink.io/v1alpha1: " + head.APIVersion + " " + head.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
			return err
		}
	}
	return nil
}

// TestNames: the tests and figures that pages name as their witnesses exist.
func TestNames(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "build" || d.Name() == ".git"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((Test|Benchmark)\w+)\(`).FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	labtest.Must(t, err)
	figures, err := os.ReadFile(filepath.Join(root, "docs", "performance.md"))
	labtest.Must(t, err)
	named := 0
	for _, p := range pages(t) {
		for _, name := range regexp.MustCompile(`\b(Test|Benchmark)[A-Z]\w+`).FindAllString(p.text, -1) {
			named++
			if !tests[name] {
				t.Errorf("%s names %s, and there is no such test", p.name, name)
			}
		}
		for _, m := range regexp.MustCompile("`((fib|agent|ipam|cni|bgp)\\.[a-z]+_[0-9a-z_]+)`").FindAllStringSubmatch(p.text, -1) {
			named++
			if !strings.Contains(string(figures), m[1]) {
				t.Errorf("%s names the figure %s, which docs/performance.md lacks", p.name, m[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d names were found", named)
	}
}

// TestParse: what a fence says, and what is refused.
func TestParse(t *testing.T) {
	t.Parallel()
	text := strings.ReplaceAll("1. item\n\n   '''sh on=a exit=2\n   one\n     two\n   systemctl stop x\n   three\n   '''\n\n'''console on=b\n# one\nprints\n# two\n'''\n\n'''sh not-run: needs a cluster\nkubectl x\n'''\n", "'''", "```")
	blocks, err := Parse("p.md", text)
	labtest.Must(t, err)
	if len(blocks) != 3 || blocks[0].Text != "one\n  two\nsystemctl stop x\nthree\n" || blocks[0].On != "a" || blocks[2].NotRun != "needs a cluster" {
		t.Errorf("blocks are %+v", blocks)
	}
	if got := blocks[0].Commands(); len(got) != 3 || got[0].Text != "one\n  two\n" || got[2] != (Command{Line: 7, Text: "three", Exit: 2}) {
		t.Errorf("commands are %+v", got)
	}
	if got := blocks[1].Commands(); len(got) != 2 || got[0].Shown != "prints\n" || got[1].Shown != "" {
		t.Errorf("commands are %+v", got)
	}
	for name, bad := range map[string]string{
		"no language": "'''\nx\n'''\n", "unknown attribute": "'''sh at=a\nx\n'''\n", "indented": "text\n\n    onlinkctl peers\n", "no end": "'''sh on=a\nx\n", "exit code": "'''sh on=a exit=x\nx\n'''\n",
	} {
		if _, err := Parse("p.md", strings.ReplaceAll(bad, "'''", "```")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestDiffer: what may differ between a page and a run, and what may not.
func TestDiffer(t *testing.T) {
	t.Parallel()
	const shown = "NAME   SINCE   MAC\nrr1    31s     5e:31:0c:5b:7e:12\n"
	for _, c := range []struct {
		name, shown, got string
		same             bool
	}{
		{"times, widths and MAC addresses", shown, "NAME    SINCE    MAC\nrr1     2m4s     02:00:00:00:00:01\n\n", true},
		{"a name", shown, strings.ReplaceAll(shown, "rr1", "rr2"), false},
		{"a session that is not up", "rr1 Active 16s\n", "rr1 Idle 3s\n", true},
		{"and one that is", "rr1 Active 16s\n", "rr1 Established 3s\n", false},
		{"a try before the peer listened", "rr1 0 -\n", "rr1 0 1m2s ago: connect: dial tcp 0.0.0.0:0->10.57.1.12:179: connect: connection refused\n", true},
		{"the same of one peer", "Session: up\n", "Session: up\nLast error:  1m9s ago: connect: dial tcp 0.0.0.0:0->10.57.1.10:179: connect: connection refused (before the present session)\n", true},
		{"who ran a command", "by root (uid 0, pid 12 onlinkctl, of pid 11 bash)\n", "by root (uid 0, pid 7 onlinkctl, of pid 5 docs.test)\n", true},
		{"and what was run", "by root (uid 0, pid 12 onlinkctl, of pid 11 bash)\n", "by root (uid 0, pid 7 curl, of pid 5 docs.test)\n", false},
		{"another error", "rr1 0 -\n", "rr1 0 1m2s ago: hold timer expired\n", false},
		{"a missing line", shown, "NAME   SINCE   MAC\n", false},
		{"a line more", shown, shown + "more\n", false},
		{"lines left out", "NAME SINCE MAC\n...\n", shown, true},
		{"lines left out in the middle", "NAME SINCE MAC\n...\nend\n", shown + "x\nend\n", true},
		{"and not found after", "NAME SINCE MAC\n...\nend\n", shown, false},
		{"an address", "via 10.57.1.11\n", "via 10.57.1.12\n", false},
		{"a number", "7 routes\n", "8 routes\n", false},
	} {
		if err := Differ(c.shown, c.got); (err == nil) != c.same {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
