package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"regexp"
	"strings"
)

// identity is a value by which onlink knows its own things in the kernel.
type identity struct {
	name  string
	value constant.Value
	// named: the name that a constant or variable of this value has. Several
	// identities share a number, and 179 is BGP's TCP port too. nil: every
	// literal of the value is a definition.
	named *regexp.Regexp
}

func number(name string, value int64, named string) identity {
	return identity{name, constant.MakeInt64(value), regexp.MustCompile(named)}
}

func text(name, value, named string) identity {
	id := identity{name: name, value: constant.MakeString(value)}
	if named != "" {
		id.named = regexp.MustCompile(named)
	}
	return id
}

// identities mirrors the table "Identity in the kernel" of DESIGN.md.
func identities() []identity {
	return []identity{
		number("protocol", 179, `(?i)proto`),
		number("nexthop-ids", 0x4f4c0000, `(?i)nexthop`),
		number("netlink-ports", 0x4f4c0000, `(?i)port`),
		number("groups", 0x4f4c0000, `(?i)group`),
		number("mark", 0x4f4c0000, `(?i)mark`),
		number("gateway-table", 20300, `(?i)table`),
		number("gateway-priority", 20300, `(?i)priority`),
		text("device-ipip", "onlink-ipip", ""),
		text("device-ip6", "onlink-ip6", ""),
		text("device-vxlan", "onlink-vxlan", ""),
		text("device-vxlan6", "onlink-vxlan6", ""),
		text("device-pod", "onl", ""),
		text("address-tunnel", "192.0.0.8", ""),
		text("alias-tunnel", "onlink", `(?i)alias`),
		text("alias-pod", "onlink ", ""),
		text("nft-table", "onlink", `(?i)table`),
		text("nft-senders", "onlink-pods", ""),
	}
}

// identityFigures counts the definitions of each identity.
func identityFigures(t *tree) []figure {
	var out []figure
	literals := t.literals()
	for _, id := range identities() {
		f := figure{name: "identity/" + id.name, goal: 1, exact: true}
		for _, l := range literals {
			if l.value.Kind() != id.value.Kind() || !constant.Compare(l.value, token.EQL, id.value) {
				continue
			}
			if id.named != nil && !id.named.MatchString(l.of) {
				continue
			}
			f.value++
			f.counted = append(f.counted, strings.TrimSpace(fmt.Sprintf("%s: %s %s", t.fset.Position(l.pos), l.value, l.of)))
		}
		out = append(out, f)
	}
	return out
}

// literal is a value that is written down in the source.
type literal struct {
	pos   token.Pos
	value constant.Value
	of    string // the constant or variable that is declared as it; empty: none
}

// literals returns the numbers and texts in the source, but for import paths,
// package integration, and this program's own tables.
func (t *tree) literals() []literal {
	var out []literal
	for _, p := range t.packages {
		if p.below("integration") || p.below("tools") {
			continue
		}
		for _, f := range p.source() {
			out = append(out, literalsOf(f.ast)...)
		}
	}
	return out
}

func literalsOf(f *ast.File) []literal {
	declared := map[*ast.BasicLit]string{}
	var out []literal
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.ValueSpec:
			for i, v := range n.Values {
				if lit, ok := v.(*ast.BasicLit); ok && i < len(n.Names) {
					declared[lit] = n.Names[i].Name
				}
			}
		case *ast.BasicLit:
			if v := constant.MakeFromLiteral(n.Value, n.Kind, 0); v.Kind() != constant.Unknown {
				out = append(out, literal{n.Pos(), v, declared[n]})
			}
		}
		return true
	})
	return out
}
