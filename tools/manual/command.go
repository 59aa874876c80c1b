package manual

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Program is a command tree, and what its pages have beside it.
type Program struct {
	Root        *cobra.Command
	Section     int
	Exit        []Item // exit codes
	Environment []Item
	Files       []Item
	SeeAlso     []string          // such as onlinkd.yaml(5), on every page
	More        map[string][]Part // by page: parts behind the options
}

// Pages returns one page for each command that a user sees.
func (p *Program) Pages() []Page {
	return p.pages(p.Root)
}

func (p *Program) pages(cmd *cobra.Command) []Page {
	cmd.InitDefaultHelpFlag()
	out := []Page{p.page(cmd)}
	for _, c := range visible(cmd) {
		out = append(out, p.pages(c)...)
	}
	return out
}

func visible(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool {
		return !c.IsAvailableCommand() || c.Name() == "help" || c.Name() == "completion"
	})
}

func (p *Program) page(cmd *cobra.Command) Page {
	out := Page{Name: pageName(cmd), Section: p.Section, Short: lowerFirst(cmd.Short)}
	add := func(title string, blocks ...Block) {
		if len(blocks) > 0 && (len(blocks) > 1 || len(blocks[0].Items) > 0 || blocks[0].Text+blocks[0].Verbatim != "") {
			out.Parts = append(out.Parts, Part{title, blocks})
		}
	}
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	add("SYNOPSIS", Block{Verbatim: synopsis(cmd)})
	add("DESCRIPTION", Text(long)...)
	var commands []Item
	for _, c := range visible(cmd) {
		commands = append(commands, Item{c.Name(), fmt.Sprintf("%s: %s(%d).", c.Short, pageName(c), p.Section)})
	}
	add("COMMANDS", Block{Items: commands})
	add("OPTIONS", Block{Items: flags(cmd.NonInheritedFlags())})
	add("GLOBAL OPTIONS", Block{Items: flags(cmd.InheritedFlags())})
	out.Parts = append(out.Parts, p.More[out.Name]...)
	add("EXIT STATUS", Block{Items: p.Exit})
	add("ENVIRONMENT", Block{Items: p.Environment})
	add("FILES", Block{Items: p.Files})
	add("EXAMPLES", Text(cmd.Example)...)
	add("SEE ALSO", Block{Text: strings.Join(p.seeAlso(cmd), ", ")})
	return out
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func synopsis(cmd *cobra.Command) string {
	line := cmd.UseLine()
	if len(visible(cmd)) > 0 {
		line += "\n" + cmd.CommandPath() + " COMMAND [flags]"
	}
	return line
}

// seeAlso returns the pages around a command's: its parent's, those of its commands,
// and those of the program.
func (p *Program) seeAlso(cmd *cobra.Command) []string {
	var out []string
	section := fmt.Sprintf("(%d)", p.Section)
	if cmd.HasParent() {
		out = append(out, pageName(cmd.Parent())+section)
	}
	for _, c := range visible(cmd) {
		out = append(out, pageName(c)+section)
	}
	return append(out, p.SeeAlso...)
}

// flags lists options as a person writes them.
func flags(set *pflag.FlagSet) []Item {
	var out []Item
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		switch {
		case value != "" && f.NoOptDefVal != "":
			name += "[=" + strings.ToUpper(value) + "]"
		case value != "":
			name += " " + strings.ToUpper(value)
		}
		usage = upperFirst(strings.TrimRight(usage, ".")) + "."
		if f.NoOptDefVal != "" && f.Value.Type() != "bool" {
			usage += " Without a value: " + f.NoOptDefVal + "."
		}
		if !slices.Contains([]string{"", "false", "0", "0s", "[]"}, f.DefValue) {
			usage += " Default: " + f.DefValue + "."
		}
		out = append(out, Item{name, usage})
	})
	return out
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
