package docs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Block is one code block of a page.
type Block struct {
	Page     string
	Line     int    // of its first line
	Language string // sh, console, yaml, ...
	Text     string // without the indentation of the fence

	On     string // the hosts that it is for, separated by commas; empty: none
	File   string // the file that it is; empty: none
	Check  string // which program reads it, where its language has several
	Exit   int    // the exit code of its last command
	Break  int    // the number of the breakage of the drill that it makes; 0: none
	NotRun string // why it is not run; empty: it is
}

// Where names the block for a reader of a failed test.
func (b *Block) Where() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// errInfo is the error of a fence with an unknown attribute.
var errInfo = errors.New("write on=, file=, check=, exit=, break= or not-run: REASON")

var (
	fenceRE    = regexp.MustCompile("^( *)(```+)(.*)$")
	listItemRE = regexp.MustCompile(`^ *([-*]|\d+\.) `)
)

// Parse returns the code blocks of a page. Blocks that Markdown makes of indented lines
// are an error: they have no language, so that none could say what they are.
func Parse(page, text string) ([]*Block, error) {
	var blocks []*Block
	var open *Block
	var errs []error
	indent, fence, list, blank := 0, "", false, true
	for i, line := range strings.Split(text, "\n") {
		m := fenceRE.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			indent, fence = len(m[1]), m[2]
			open = &Block{Page: page, Line: i + 2}
			if err := open.describe(m[3]); err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %w", page, i+1, err))
			}
		case open != nil && m != nil && m[2] == fence && m[3] == "":
			blocks, open = append(blocks, open), nil
		case open != nil:
			open.Text += strings.TrimPrefix(line, strings.Repeat(" ", indent)) + "\n"
		default:
			list = listItemRE.MatchString(line) || list && (line == "" || strings.HasPrefix(line, " "))
			if blank && !list && strings.HasPrefix(line, "    ") {
				errs = append(errs, fmt.Errorf("%s:%d: an indented code block; put it between fences with a language", page, i+1))
			}
		}
		blank = strings.TrimSpace(line) == "" || blank && strings.HasPrefix(line, "    ")
	}
	if open != nil {
		errs = append(errs, fmt.Errorf("%s: the code block does not end", open.Where()))
	}
	return blocks, errors.Join(errs...)
}

// describe reads what stands behind the fence.
func (b *Block) describe(info string) error {
	info, b.NotRun, _ = strings.Cut(info, "not-run:")
	b.NotRun = strings.TrimSpace(b.NotRun)
	words := strings.Fields(info)
	if len(words) == 0 {
		return errors.New("a code block without a language: write ```sh or ```console for commands, ```yaml, ```json ... for files, ```text for what is only looked at")
	}
	b.Language = words[0]
	for _, word := range words[1:] {
		key, value, ok := strings.Cut(word, "=")
		switch {
		case ok && key == "on":
			b.On = value
		case ok && key == "file":
			b.File = value
		case ok && key == "check":
			b.Check = value
		case ok && (key == "exit" || key == "break"):
			n, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("%q: %w", word, err)
			}
			*map[string]*int{"exit": &b.Exit, "break": &b.Break}[key] = n
		default:
			return fmt.Errorf("%q: %w", word, errInfo)
		}
	}
	return nil
}

// Command is a command of a block, and what the page shows of its output.
type Command struct {
	Line  int
	Text  string
	Shown string // empty: nothing is compared
	Exit  int
}

// alone reports whether a line is no command of the shell: a bed has no systemd and no
// SSH server. It does itself what the unit says, and copies files.
func alone(line string) bool {
	return strings.HasPrefix(line, "systemctl ") || strings.HasPrefix(line, "scp ")
}

// Commands returns what a block of language sh or console runs. The lines of sh are one
// command of the shell, but for those that are [alone].
func (b *Block) Commands() (list []Command) {
	lines := strings.SplitAfter(strings.TrimSuffix(b.Text, "\n"), "\n")
	for i, line := range lines {
		at := b.Line + i
		if b.Language == "console" {
			text, prompt := strings.CutPrefix(line, "# ")
			switch {
			case prompt:
				list = append(list, Command{Line: at, Text: text})
			case len(list) > 0:
				list[len(list)-1].Shown += line
			}
			continue
		}
		if n := len(list); n == 0 || alone(line) || alone(list[n-1].Text) {
			list = append(list, Command{Line: at})
		}
		list[len(list)-1].Text += line
	}
	if len(list) > 0 {
		list[len(list)-1].Exit = b.Exit
	}
	return list
}
