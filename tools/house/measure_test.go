package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMethods(t *testing.T) {
	tr := source(t, map[string]string{
		"a.go": "type s struct{}\ntype g[T any] struct{ v T }\nfunc (s) a() {}\nfunc (*s) B() {}\nfunc free() {}",
		"b.go": "func (x *s) c() { x.a(); x.B() }\nfunc (g[T]) d() {}\nfunc (*g[T]) e() {}",
	})
	got := map[string]float64{}
	for _, f := range methodFigures(tr) {
		got[f.name] = f.value
	}
	if diff := cmp.Diff(map[string]float64{"methods/p.s": 3, "methods/p.g": 2}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIdentity(t *testing.T) {
	tr := source(t, map[string]string{
		"a.go": "const Protocol = 179\nconst own = Protocol\nconst port = 179\nconst prefix = \"onl\"",
		"b.go": "const ownProto = 0xb3\nfunc b(s string) bool { return s == \"onl\" || s == \"onlink-ipip\" || s == \"onlink\" }",
		"c.go": "const ( FirstPort = 0x4f4c0000\nGroup = 0x4f4c0000\n LastGroup = Group + 15 )",
	})
	got := map[string]float64{}
	for _, f := range identityFigures(tr) {
		if f.value > 0 {
			got[f.name] = f.value
		}
	}
	want := map[string]float64{
		"identity/protocol": 2, "identity/device-pod": 2, "identity/device-ipip": 1,
		"identity/netlink-ports": 1, "identity/groups": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestImports(t *testing.T) {
	parse := func(path, imports string) *pkg {
		f, err := parser.ParseFile(token.NewFileSet(), "f.go", "package p\n"+imports, 0)
		if err != nil {
			t.Fatal(err)
		}
		return &pkg{path: path, files: []*file{{place: path + "/f.go", ast: f, generated: ast.IsGenerated(f)}}}
	}
	tr := &tree{packages: []*pkg{
		parse("agent", `import ( _ "google.golang.org/grpc"; _ "onlink/proto/v1" )`),
		parse("agent/admin", `import _ "onlink/proto/v1"`),
		parse("bgp", `import _ "github.com/osrg/gobgp/v3/api"`),
		parse("bgp/gobgp", `import _ "github.com/osrg/gobgp/v3/api"`),
		parse("fib", `import _ "github.com/vishvananda/netlink"`),
		parse("rib", `import _ "github.com/vishvananda/netlinkless"`),
		parse("cmd/onlinkctl", `import _ "github.com/gdamore/tcell/v3"`),
		parse("cmd/onlinkctl/monitor", `import _ "github.com/gdamore/tcell/v3/color"`),
		parse("integration/lab", `import _ "github.com/osrg/gobgp/v3/api"`),
	}}
	got := map[string][]string{}
	for _, f := range importFigures(tr) {
		got[f.name] = f.counted
	}
	want := map[string][]string{
		"imports/gobgp":    {"bgp/f.go imports github.com/osrg/gobgp/v3/api"},
		"imports/netlink":  {"fib/f.go imports github.com/vishvananda/netlink"},
		"imports/tcell":    {"cmd/onlinkctl/f.go imports github.com/gdamore/tcell/v3"},
		"imports/protobuf": {"agent/f.go imports onlink/proto/v1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAgentSize: files of other build tags count, generated ones do not, and
// packages below agent count for the share of tests only.
func TestAgentSize(t *testing.T) {
	tr := &tree{packages: []*pkg{
		{path: "agent", files: []*file{{lines: 100, built: true}, {lines: 20}, {lines: 50, generated: true}}, tests: []*file{{lines: 30}}},
		{path: "agent/state", files: []*file{{lines: 80}}, tests: []*file{{lines: 70}}},
		{path: "agents", files: []*file{{lines: 1000}}},
	}}
	got := map[string]float64{}
	for _, f := range agentSize(tr) {
		got[f.name] = f.value
	}
	if diff := cmp.Diff(map[string]float64{"agent/files": 2, "agent/lines": 120, "agent/tests": 0.5}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
