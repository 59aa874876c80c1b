package manual

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// edition is what every page of a package says of itself.
type edition struct {
	date    time.Time
	version string
}

// roff returns the page in the macros of man(7).
func (p *Page) roff(e edition) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, ".TH %s %d %s \"onlink %s\" \"onlink manual\"\n", quoted(strings.ToUpper(p.Name)), p.Section, e.date.UTC().Format(time.DateOnly), escape(e.version))
	fmt.Fprintf(&out, ".SH NAME\n%s \\- %s\n", dashes(escape(p.Name)), escape(p.Short))
	for _, part := range p.Parts {
		fmt.Fprintf(&out, ".SH %s\n", quoted(part.Title))
		for n, b := range part.Blocks {
			b.roff(&out, n == 0)
		}
	}
	return out.Bytes()
}

func (b *Block) roff(out *bytes.Buffer, first bool) {
	switch {
	case len(b.Items) > 0:
		for _, i := range b.Items {
			fmt.Fprintf(out, ".TP\n%s\n", term(i.Term))
			for n, inner := range Text(i.Text) {
				if n > 0 {
					inner.inList(out)
				} else {
					inner.roff(out, true)
				}
			}
		}
	case b.Verbatim != "":
		if !first {
			out.WriteString(".PP\n")
		}
		fmt.Fprintf(out, ".EX\n%s\n.EE\n", lines(dashes(escape(b.Verbatim))))
	default:
		if !first {
			out.WriteString(".PP\n")
		}
		fmt.Fprintf(out, "%s\n", lines(wrap(pages(options(escape(b.Text))))))
	}
}

// inList writes a further block of a list's entry.
func (b *Block) inList(out *bytes.Buffer) {
	if b.Verbatim == "" {
		fmt.Fprintf(out, ".IP\n%s\n", lines(wrap(pages(options(escape(b.Text))))))
		return
	}
	fmt.Fprintf(out, ".IP\n.EX\n%s\n.EE\n", lines(dashes(escape(b.Verbatim))))
}

// The places of a text that have a font of their own.
var (
	option = regexp.MustCompile(`(^|[\s(",\[])(--?[a-z][a-z0-9-]*)`)
	see    = regexp.MustCompile(`\b(onlink[a-z.-]*)\(([158])\)`)
	word   = regexp.MustCompile(`[A-Z][A-Z0-9]+`)
)

// term writes the term of a list: options and commands bold, their values in italics.
func term(s string) string {
	s = word.ReplaceAllString(dashes(escape(s)), `\fI$0\fB`)
	return `\fB` + s + `\fR`
}

func options(s string) string {
	return option.ReplaceAllStringFunc(s, func(m string) string {
		sub := option.FindStringSubmatch(m)
		return sub[1] + `\fB` + dashes(sub[2]) + `\fR`
	})
}

func pages(s string) string { return see.ReplaceAllString(s, `\fB$1\fR($2)`) }

func escape(s string) string { return strings.ReplaceAll(s, `\`, `\e`) }

// dashes makes each hyphen the one of the keyboard, which a reader can copy.
func dashes(s string) string { return strings.ReplaceAll(s, "-", `\-`) }

func quoted(s string) string { return `"` + strings.ReplaceAll(dashes(escape(s)), `"`, `\(dq`) + `"` }

// lines keeps lines of text from being requests.
func lines(s string) string {
	all := strings.Split(s, "\n")
	for n, line := range all {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			all[n] = `\&` + line
		}
	}
	return strings.Join(all, "\n")
}

// wrap breaks a paragraph into lines that a person can read in the source.
func wrap(s string) string {
	const width = 78
	var out strings.Builder
	column := 0
	for w := range strings.FieldsSeq(s) {
		switch {
		case column == 0:
		case column+1+len(w) > width:
			out.WriteString("\n")
			column = 0
		default:
			out.WriteString(" ")
			column++
		}
		out.WriteString(w)
		column += len(w)
	}
	return out.String()
}
