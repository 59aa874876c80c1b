package main

import (
	"fmt"
	"regexp"
	"strings"
)

// file is one .proto file of the form that this tree has: a statement or a comment a
// line, proto3, nothing nested but oneof.
type file struct {
	text   string // its first comment
	blocks []*block
}

// block is a service, a message or an enum.
type block struct {
	kind, name, text string
	rows             []row
}

// row is a method, a field or a value.
type row struct {
	name, number, text string
	takes, gives       string // of a field takes is its type, of a method the request
	choice             string // the oneof of a field
}

var (
	opens  = regexp.MustCompile(`^(service|message|enum) (\w+) \{((?: .*;)? ?\})?$`)
	method = regexp.MustCompile(`^rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);$`)
	field  = regexp.MustCompile(`^((?:repeated |optional )?(?:map<\w+, ?[\w.]+>|[\w.]+)) (\w+) = (\d+)( \[.*\])?;$`)
	value  = regexp.MustCompile(`^(\w+) = (\d+);$`)
	choice = regexp.MustCompile(`^oneof (\w+) \{$`)
	passed = regexp.MustCompile(`^(syntax|package|import|option|reserved) ?.*;$`)
)

// parse reads a file. A line of another form is an error: the page would lack it.
func parse(name, text string) (*file, error) {
	p := &parser{file: &file{}}
	for n, line := range strings.Split(text, "\n") {
		if err := p.line(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
		}
	}
	if p.in != nil {
		return nil, fmt.Errorf("%s: %s %s does not end", name, p.in.kind, p.in.name)
	}
	return p.file, nil
}

type parser struct {
	file   *file
	in     *block
	choice string
	above  []string // comment lines before a statement
}

func (p *parser) line(line string) error {
	if comment, is := strings.CutPrefix(line, "//"); is {
		p.above = append(p.above, strings.TrimSpace(comment))
		return nil
	}
	statement, comment, _ := strings.Cut(line, " //")
	statement, text := strings.TrimSpace(statement), strings.TrimSpace(strings.Join(append(p.above, strings.TrimSpace(comment)), " "))
	p.above = nil
	switch {
	case statement == "":
	case strings.HasPrefix(statement, "syntax"):
		p.file.text = text
	case passed.MatchString(statement):
	case statement == "}" && p.choice != "":
		p.choice = ""
	case statement == "}" && p.in != nil:
		p.in = nil
	case p.in == nil:
		return p.open(statement, text)
	default:
		return p.row(statement, text)
	}
	return nil
}

func (p *parser) open(statement, text string) error {
	m := opens.FindStringSubmatch(statement)
	if m == nil {
		return fmt.Errorf("%q is no service, message or enum", statement)
	}
	b := &block{kind: m[1], name: m[2], text: text}
	p.file.blocks = append(p.file.blocks, b)
	p.in = b
	one, closed := strings.CutSuffix(m[3], "}")
	if !closed {
		return nil
	}
	defer func() { p.in = nil }()
	if one = strings.TrimSpace(one); one != "" {
		return p.row(one, "")
	}
	return nil
}

func (p *parser) row(statement, text string) error {
	r := row{text: text, choice: p.choice}
	switch m := method.FindStringSubmatch(statement); {
	case m != nil:
		r.name, r.takes, r.gives = m[1], m[2]+m[3], m[4]+m[5]
	case choice.MatchString(statement):
		p.choice = choice.FindStringSubmatch(statement)[1]
		return nil
	case value.MatchString(statement):
		m = value.FindStringSubmatch(statement)
		r.name, r.number = m[1], m[2]
	case field.MatchString(statement):
		m = field.FindStringSubmatch(statement)
		r.takes, r.name, r.number = m[1], m[2], m[3]
	default:
		return fmt.Errorf("%q is no method, field or value", statement)
	}
	p.in.rows = append(p.in.rows, r)
	return nil
}
