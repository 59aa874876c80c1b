package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const intro = `<!-- Made by ` + "`make reference`" + `; do not edit. -->

# The gRPC interfaces

Package ` + "`onlink.v1`" + `; the files are in ` + "`proto/v1`" + `. Who may call what is in
[security.md](../security.md). Fields keep their numbers and types: a client of another
version skips those that it does not know. With ` + "`api.admin.reflection`" + ` tools such
as grpcurl read the descriptors from an agent. ` + "`onlinkctl -o json`" + ` prints the replies
of Admin, with the names of the fields below.
`

// page returns the reference.
func page(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.proto"))
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", fmt.Errorf("no .proto file in %s", dir)
	}
	var files []*file
	known := map[string]bool{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		f, err := parse(name, string(text))
		if err != nil {
			return "", err
		}
		files = append(files, f)
		for _, b := range f.blocks {
			known[b.name] = true
		}
	}
	var out strings.Builder
	out.WriteString(intro)
	for n, f := range files {
		fmt.Fprintf(&out, "\n## %s\n\n%s\n", filepath.Base(names[n]), plain(f.text))
		for _, b := range f.blocks {
			b.write(&out, known)
		}
	}
	return out.String(), nil
}

func (b *block) write(out *strings.Builder, known map[string]bool) {
	fmt.Fprintf(out, "\n### %s\n", b.name)
	if b.text != "" {
		fmt.Fprintf(out, "\n%s\n", plain(b.text))
	}
	if len(b.rows) == 0 {
		out.WriteString("\nIt has no field.\n")
		return
	}
	out.WriteString(map[string]string{
		"service": "\n| method | request | reply | |\n|---|---|---|---|\n",
		"message": "\n| field | type | number | |\n|---|---|---|---|\n",
		"enum":    "\n| value | number | |\n|---|---|---|\n",
	}[b.kind])
	for _, r := range b.rows {
		text := plain(r.text)
		if r.choice != "" {
			text = strings.TrimSpace("One of " + r.choice + ". " + text)
		}
		switch b.kind {
		case "service":
			fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", r.name, linked(r.takes, known), linked(r.gives, known), text)
		case "message":
			fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", r.name, linked(r.takes, known), r.number, text)
		default:
			fmt.Fprintf(out, "| `%s` | %s | %s |\n", r.name, r.number, text)
		}
	}
}

var typeName = regexp.MustCompile(`[A-Za-z0-9_.]+`)

// linked links the types of the page in a type.
func linked(s string, known map[string]bool) string {
	s = strings.NewReplacer("<", `\<`, ">", `\>`).Replace(s)
	return typeName.ReplaceAllStringFunc(s, func(name string) string {
		if !known[name] {
			return strings.TrimPrefix(name, "google.protobuf.")
		}
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	})
}

// plain keeps Markdown from reading a comment's characters as its own.
func plain(s string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`, "_", `\_`).Replace(s)
}
