package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
)

// useFigures measures, for each package, which share of the uses between its
// files runs back up. Packages with fewer uses than t.fewUses have no figure.
func useFigures(t *tree) []figure {
	var out []figure
	for _, p := range t.packages {
		files := p.source()
		if len(files) < 2 {
			continue
		}
		g := usesBetween(t.fset, files, p.types, p.info)
		if len(g.names) < t.fewUses {
			continue
		}
		order := bestOrder(g)
		back, all := g.back(order)
		f := figure{name: "back-uses/" + p.path, goal: goalBackUses, percent: true, many: true}
		if all > 0 {
			f.value = rounded(100*float64(len(back))/float64(all), 1)
		}
		f.counted = append(f.counted, fmt.Sprintf("%d of %d uses run back up in this order of %d files:", len(back), all, len(files)))
		for _, n := range order {
			f.counted = append(f.counted, "  "+files[n].name)
		}
		for _, e := range back {
			f.counted = append(f.counted, fmt.Sprintf("%s uses %s: %s", files[e.from].name, files[e.to].name, strings.Join(g.names[e], ", ")))
		}
		out = append(out, f)
	}
	slices.SortStableFunc(out, func(a, b figure) int {
		return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(a.name, b.name))
	})
	return out
}

// usesBetween finds the uses between the files of a package.
func usesBetween(fset *token.FileSet, files []*file, self *types.Package, info *types.Info) graph {
	number := map[*token.File]int{}
	for i, f := range files {
		number[fset.File(f.ast.Pos())] = i
	}
	used := map[edge]map[string]bool{}
	for from, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			obj := info.Uses[id]
			if obj == nil || obj.Pkg() != self || !obj.Pos().IsValid() {
				return true
			}
			to, ok := number[fset.File(obj.Pos())]
			if !ok || to == from { // declared in generated code, or here
				return true
			}
			e := edge{from, to}
			if used[e] == nil {
				used[e] = map[string]bool{}
			}
			used[e][obj.Name()] = true
			return true
		})
	}
	g := graph{n: len(files), names: map[edge][]string{}}
	for e, names := range used {
		g.names[e] = slices.Sorted(maps.Keys(names))
	}
	return g
}
