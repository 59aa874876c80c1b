package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// library is what few rooms may import.
type library struct {
	name  string
	paths []string // prefixes of import paths
	rooms []string // packages that may, with those below them
}

// libraries mirrors the table of rooms in DESIGN.md.
func libraries() []library {
	return []library{
		{
			name: "gobgp", paths: []string{"github.com/osrg/gobgp/"},
			rooms: []string{"bgp/gobgp"},
		},
		{
			name:  "netlink",
			paths: []string{"github.com/vishvananda/netlink", "github.com/mdlayher/netlink", "github.com/jsimonetti/rtnetlink", "github.com/google/nftables"},
			rooms: []string{"dump", "tunnel", "nft", "cni/pod"},
		},
		{
			name: "tcell", paths: []string{"github.com/gdamore/tcell/"},
			rooms: []string{"cmd/onlinkctl/monitor"},
		},
		{
			// The engine's API is protobuf: its adapter cannot do without. kube knows
			// of the agent only its protocols.
			name: "protobuf", paths: []string{"google.golang.org/protobuf/", module + "/proto/"},
			rooms: []string{"agent/admin", "ipam/remote", "cni", "cmd", "proto", "bgp/gobgp", "kube/node", "kube/registry"},
		},
	}
}

// importFigures counts the files that import a library outside its rooms.
func importFigures(t *tree) []figure {
	var out []figure
	for _, l := range libraries() {
		f := figure{name: "imports/" + l.name}
		for _, p := range t.packages {
			if p.below("integration") || slices.ContainsFunc(l.rooms, p.below) {
				continue
			}
			for _, file := range p.files {
				if path := l.importedBy(file); path != "" && !file.generated {
					f.value++
					f.counted = append(f.counted, fmt.Sprintf("%s imports %s", file.place, path))
				}
			}
		}
		out = append(out, f)
	}
	return out
}

// importedBy returns the path by which a file imports the library; empty: it
// does not.
func (l library) importedBy(f *file) string {
	for _, spec := range f.ast.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser takes no such import
		}
		for _, prefix := range l.paths {
			if strings.HasPrefix(path+"/", strings.TrimSuffix(prefix, "/")+"/") {
				return path
			}
		}
	}
	return ""
}
