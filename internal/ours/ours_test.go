package ours_test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"onlink/internal/ours"
)

// TestRanges: what the rooms that use the numbers rely on.
func TestRanges(t *testing.T) {
	if ours.Ports&(ours.Ports-1) != 0 || ours.FirstPort%ours.Ports != 0 {
		t.Errorf("ports %#x and %d more: no mask tells the range, which the filter of package fib/underlay does", ours.FirstPort, ours.Ports)
	}
	groups := []uint32{ours.PodEnded, ours.PodRemoving, ours.PodServing}
	for _, g := range groups {
		if g&ours.PodGroupMask != ours.PodGroup {
			t.Errorf("group %#x is not in the range that nftables matches", g)
		}
	}
	if slices.Sort(groups); len(slices.Compact(groups)) != 3 {
		t.Errorf("two of the groups %#x are one", groups)
	}
	const ifnamsiz = 16 // linux/if.h, with the terminator
	if n := len(ours.HostDevicePrefix) + ours.HostDeviceDigits; n >= ifnamsiz {
		t.Errorf("host ends have names of %d bytes, more than a device's name can have", n)
	}
	names := []string{ours.DeviceIPIP, ours.DeviceIP6, ours.DeviceVXLAN, ours.DeviceVXLAN6}
	for _, name := range names {
		if len(name) >= ifnamsiz {
			t.Errorf("%s is longer than a device's name can be", name)
		}
	}
	if slices.Sort(names); len(slices.Compact(names)) != 4 {
		t.Errorf("two tunnel devices have one name: %v", names)
	}
	if a, err := netip.ParseAddr(ours.TunnelAddress); err != nil || !a.Is4() {
		t.Errorf("tunnel address %q: %v", ours.TunnelAddress, err)
	}
	if ours.SpreadMark&0xffff != 0 {
		t.Errorf("mark %#x has bits that other programs' masks look at", ours.SpreadMark)
	}
}

// elsewhere are literals that equal one of the package's and mean another
// thing, by file and text.
var elsewhere = map[string]string{
	`agent/config/default.go 179`: "TCP port of BGP",
	`bgp/wanted.go 179`:           "TCP port of BGP",
	`cni/conflist.go "onlink"`:    "name of the CNI network",
	`ipam/schema.go "onlink"`:     "name of a bucket in the database",
	`fib/protocol.go "onlink"`:    "name of the route protocol in errors",

	`internal/identity/identity.go "onlink"`: "scheme of the SAN URIs of certificates",

	`cmd/onlink-kube/root.go "onlink"`: "namespace in a cluster",
	`kube/node/events.go "onlink"`:     "component of an Event",
}

// TestOneDefinition: no other package states a number or name of onlink's
// identity in the kernel as a literal of its own. The whole-system tests and the
// tools do: they look at the kernel, and at the tree, from outside.
func TestOneDefinition(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	numbers, names := identity(t)
	unused := maps.Clone(elsewhere)
	files := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"build", "integration", "internal/ours", "proto", "tools"}, rel) || isModule(path)):
			return filepath.SkipDir
		case !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go"):
			return nil
		}
		files++
		for _, l := range literals(t, path) {
			if !numbers[l.value] && !names[l.value] {
				continue
			}
			key := rel + " " + l.text
			if _, known := elsewhere[key]; known {
				delete(unused, key)
				continue
			}
			t.Errorf("%s:%d: %s: use package ours", rel, l.line, l.text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("only %d files were read", files)
	}
	for key, why := range unused {
		t.Errorf("%s (%s) is not there any more", key, why)
	}
}

// isModule reports whether a folder is a module of its own, such as what is laid
// over the engine's source.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// identity returns the values of the package's constants, as Go writes them:
// the numbers but for the sizes, and the names but for the words.
func identity(t *testing.T) (numbers, names map[string]bool) {
	t.Helper()
	numbers, names = map[string]bool{}, map[string]bool{}
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, l := range literals(t, path) {
			switch {
			case slices.Contains([]string{"1", "2", "11", "256", `"4"`, `"pools"`, `"senders"`}, l.value):
			case l.kind == token.STRING:
				names[l.value] = true
			default:
				numbers[l.value] = true
			}
		}
	}
	if len(numbers) != 4 || len(names) != 9 {
		t.Fatalf("found only the numbers %v and the names %v", numbers, names)
	}
	return numbers, names
}

type literal struct {
	kind        token.Token
	value, text string
	line        int
}

// literals returns the integers and strings of a file, imports left out.
func literals(t *testing.T, path string) []literal {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var out []literal
	ast.Inspect(file, func(n ast.Node) bool {
		if _, ok := n.(*ast.ImportSpec); ok {
			return false
		}
		if l, ok := n.(*ast.BasicLit); ok && (l.Kind == token.INT || l.Kind == token.STRING) {
			v := constant.MakeFromLiteral(l.Value, l.Kind, 0)
			out = append(out, literal{l.Kind, v.ExactString(), l.Value, set.Position(l.Pos()).Line})
		}
		return true
	})
	return out
}
