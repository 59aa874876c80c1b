// Package manual makes the manual pages and docs/reference of the programs: one model
// of a page, made of a command tree, written as man(7) and as Markdown. Only tests
// import it: [Check] runs in the test TestManual of each program, so that no program
// is linked with its own manual.
//
// cobra's own generator reads the texts of commands as Markdown, joins their columns,
// and mandoc(1) finds hundreds of faults in its pages.
package manual

import "strings"

// Page is one manual page.
type Page struct {
	Name    string // such as onlinkctl-peers
	Section int    // 1: commands, 5: files, 8: for administrators
	Short   string // the line of NAME
	Parts   []Part
}

// Part is a section of a page with its title, such as EXIT STATUS.
type Part struct {
	Title  string
	Blocks []Block
}

// Block is one of: a paragraph, text as it stands, a list.
type Block struct {
	Text     string
	Verbatim string
	Items    []Item
}

// Item is an entry of a list: a term, such as --output FORMAT, and its meaning.
type Item struct {
	Term string
	Text string // paragraphs and text as it stands, as of a command
}

// Text splits the text of a command into blocks: paragraphs end at an empty line,
// indented lines stand as they are.
func Text(s string) []Block {
	var out []Block
	var text, verbatim []string
	flush := func() {
		if len(text) > 0 {
			out = append(out, Block{Text: strings.Join(text, " ")})
		}
		if len(verbatim) > 0 {
			out = append(out, Block{Verbatim: strings.Join(verbatim, "\n")})
		}
		text, verbatim = nil, nil
	}
	for line := range strings.SplitSeq(strings.Trim(s, "\n"), "\n") {
		switch indented := strings.HasPrefix(line, "  "); {
		case strings.TrimSpace(line) == "":
			flush()
		case indented && len(text) > 0, !indented && len(verbatim) > 0:
			flush()
			fallthrough
		default:
			if indented {
				verbatim = append(verbatim, strings.TrimRight(line, " "))
			} else {
				text = append(text, strings.TrimSpace(line))
			}
		}
	}
	flush()
	return out
}
