package manual

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Reference is a page of docs/reference: several manual pages in one.
type Reference struct {
	Name  string // of the file, without .md
	Intro string
	Pages []Page
}

// common are the parts that all pages of a program share: the first one has them.
var common = []string{"GLOBAL OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"}

// made is the first line, which keeps people from editing the page.
const made = "<!-- Made by `make reference`; do not edit. -->\n"

// markdown returns the page.
func (r *Reference) markdown() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s\n# %s\n", made, r.Name)
	if r.Intro != "" {
		fmt.Fprintf(&out, "\n%s\n", strings.TrimSpace(r.Intro))
	}
	for n, p := range r.Pages {
		title := strings.ReplaceAll(p.Name, "-", " ")
		if strings.HasPrefix(p.Name, "onlink-") { // the program's own name has one
			title = strings.Replace(title, "onlink ", "onlink-", 1)
		}
		if len(r.Pages) > 1 {
			fmt.Fprintf(&out, "\n## %s\n", title)
		}
		fmt.Fprintf(&out, "\n%s.\n", upperFirst(plain(p.Short)))
		for _, part := range p.Parts {
			if n > 0 && slices.Contains(common, part.Title) {
				continue
			}
			if part.Title != "DESCRIPTION" {
				fmt.Fprintf(&out, "\n**%s**\n", sentence(part.Title))
			}
			for _, b := range part.Blocks {
				out.WriteString("\n")
				b.markdown(&out)
			}
		}
	}
	return out.Bytes()
}

func (b *Block) markdown(out *bytes.Buffer) {
	switch {
	case len(b.Items) > 0:
		for _, i := range b.Items {
			fmt.Fprintf(out, "- `%s`", i.Term)
			for n, inner := range Text(i.Text) {
				switch {
				case inner.Verbatim != "":
					fmt.Fprintf(out, "\n\n%s", indent(inner.Verbatim, "      "))
				case n == 0:
					fmt.Fprintf(out, ": %s", plain(inner.Text))
				default:
					fmt.Fprintf(out, "\n\n  %s", plain(inner.Text))
				}
			}
			out.WriteString("\n")
		}
	case b.Verbatim != "":
		fmt.Fprintf(out, "```\n%s\n```\n", indent(b.Verbatim, ""))
	default:
		fmt.Fprintf(out, "%s\n", plain(b.Text))
	}
}

// plain keeps Markdown from reading a text's characters as its own.
func plain(s string) string {
	return strings.NewReplacer("*", `\*`, "_", `\_`, "<", `\<`, "`", "\\`", "|", `\|`).Replace(s)
}

func sentence(title string) string { return title[:1] + strings.ToLower(title[1:]) }

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// indent puts every line behind prefix, without the indentation that all have.
func indent(s, prefix string) string {
	all := strings.Split(s, "\n")
	common := -1
	for _, line := range all {
		if n := len(line) - len(strings.TrimLeft(line, " ")); line != "" && (common < 0 || n < common) {
			common = n
		}
	}
	for n, line := range all {
		if line != "" {
			all[n] = prefix + line[common:]
		}
	}
	return strings.Join(all, "\n")
}
