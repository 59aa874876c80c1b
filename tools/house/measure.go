package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/types"
	"maps"
	"slices"
)

// measure returns all figures, in order of their names within each kind.
func measure(t *tree) []figure {
	out := agentSize(t)
	out = append(out, methodFigures(t)...)
	out = append(out, useFigures(t)...)
	out = append(out, importFigures(t)...)
	return append(out, identityFigures(t)...)
}

// agentSize measures the composition root.
func agentSize(t *tree) []figure {
	files := figure{name: "agent/files", goal: goalAgentFiles}
	lines := figure{name: "agent/lines", goal: goalAgentLines}
	var code, tests int
	for _, p := range t.packages {
		if !p.below("agent") {
			continue
		}
		for _, f := range p.tests {
			tests += f.lines
		}
		for _, f := range p.files {
			if f.generated {
				continue
			}
			code += f.lines
			if p.path != "agent" {
				continue
			}
			files.value++
			files.counted = append(files.counted, f.place)
			lines.value += float64(f.lines)
			lines.counted = append(lines.counted, fmt.Sprintf("%6d  %s", f.lines, f.place))
		}
	}
	share := figure{
		name: "agent/tests", goal: goalAgentTests, atLeast: true,
		counted: []string{fmt.Sprintf("%d lines of tests, %d lines of code", tests, code)},
	}
	if code > 0 {
		share.value = float64(100*tests/code) / 100
	}
	return []figure{files, lines, share}
}

// methodFigures counts the methods of every type.
func methodFigures(t *tree) []figure {
	counted := map[string][]string{}
	for _, p := range t.packages {
		for _, f := range p.source() {
			for _, d := range f.ast.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Recv == nil {
					continue
				}
				name := p.path + "." + receiver(p.info, fn)
				counted[name] = append(counted[name], fmt.Sprintf("%s: %s", t.fset.Position(fn.Pos()), fn.Name.Name))
			}
		}
	}
	var out []figure
	for _, name := range slices.Sorted(maps.Keys(counted)) {
		out = append(out, figure{
			name: "methods/" + name, value: float64(len(counted[name])), goal: goalMethods, many: true, counted: counted[name],
		})
	}
	slices.SortStableFunc(out, func(a, b figure) int { return cmp.Compare(b.value, a.value) })
	return out
}

// receiver returns the name of the type that a method is declared on.
func receiver(info *types.Info, fn *ast.FuncDecl) string {
	t := info.TypeOf(fn.Recv.List[0].Type)
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := t.(*types.Named); ok {
		return n.Obj().Name()
	}
	return "?" // what does not compile is refused before
}
