package manual

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestText: columns of a command's text stay columns.
func TestText(t *testing.T) {
	got := Text("one\ntwo:\n  a   the first\n  b   the second\nthree\n\nfour\n")
	want := []Block{{Text: "one two:"}, {Verbatim: "  a   the first\n  b   the second"}, {Text: "three"}, {Text: "four"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
}

// tree is a program with what makes pages go wrong: requests of roff, backslashes,
// characters of Markdown.
func tree() *cobra.Command {
	root := &cobra.Command{
		Use: "onlinkx", Short: "Do things", Long: ".so /etc/passwd and C:\\new, with --all.\n\n  'quoted'\n  .TP", Example: "  onlinkx sub --file a-b", Run: func(*cobra.Command, []string) {},
	}
	root.PersistentFlags().StringP("output", "o", "table", "form of the `format`")
	sub := &cobra.Command{Use: "sub NAME", Short: "Do *one* thing", Example: "  onlinkx sub x", Run: func(*cobra.Command, []string) {}}
	sub.Flags().Bool("all", false, "everything")
	root.AddCommand(sub, &cobra.Command{Use: "secret", Hidden: true, Run: func(*cobra.Command, []string) {}})
	return root
}

func program() *Program {
	return &Program{Root: tree(), Section: 1, Exit: []Item{{"0", "Good."}}, Files: []Item{{"/x", "A file."}}, SeeAlso: []string{"onlinkd(8)"}}
}

// TestPages: the pages are sound, and have what the commands have.
func TestPages(t *testing.T) {
	list := program().Pages()
	if len(list) != 2 || list[0].Name != "onlinkx" || list[1].Name != "onlinkx-sub" {
		t.Fatalf("pages %+v", list)
	}
	e := edition{time.Unix(1796021231, 0), "v1"}
	var texts []string
	for _, p := range list {
		if err := p.check(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		texts = append(texts, string(p.roff(e)))
	}
	for _, part := range []string{
		".TH \"ONLINKX\" 1 2026-11-30 \"onlink v1\"", `onlinkx \- do things`, `\&.so /etc/passwd`, `C:\enew`, `\fB\-\-all\fR`,
		`\fB\-o, \-\-output \fIFORMAT\fB\fR`, "Default: table.", `\fBonlinkx-sub\fR(1)`, `\fBonlinkd\fR(8)`,
	} {
		if !strings.Contains(texts[0], part) {
			t.Errorf("%q is not in\n%s", part, texts[0])
		}
	}
	r := Reference{Name: "onlinkx", Pages: list}
	for _, part := range []string{"## onlinkx sub\n\nDo \\*one\\* thing.\n", "- `--all`: Everything.\n", "```\nonlinkx sub x\n```"} {
		if !strings.Contains(string(r.markdown()), part) {
			t.Errorf("%q is not in\n%s", part, r.markdown())
		}
	}
	if n := strings.Count(string(r.markdown()), "**Exit status**"); n != 1 {
		t.Errorf("what all pages have is there %d times", n)
	}
	if man, err := exec.LookPath("mandoc"); err == nil {
		cmd := exec.CommandContext(t.Context(), man, "-T", "ascii")
		cmd.Stdin = strings.NewReader(texts[0])
		out, err := cmd.Output()
		shown := strings.Join(strings.Fields(string(out)), " ")
		if err != nil || !strings.Contains(shown, `.so /etc/passwd and C:\new, with`) || !strings.Contains(shown, "'quoted' .TP") {
			t.Errorf("%v; a reader sees\n%s", err, out)
		}
	}
}

// TestCheck: a page that lacks something is not sound.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(p *Program)
		want string
	}{
		{"no example", func(p *Program) { p.Root.Example = "" }, "no section EXAMPLES"},
		{"no exit status", func(p *Program) { p.Exit = nil }, "no section EXIT STATUS"},
		{"a name that is a sentence", func(p *Program) { p.Root.Short = "Do things." }, "full stop"},
		{"a tab", func(p *Program) { p.Root.Example = "  a\tb" }, "tab"},
		{"another order", func(p *Program) { p.More = map[string][]Part{"onlinkx": {{"SEE ALSO", []Block{{Text: "x"}}}}} }, "before"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := program()
			tt.edit(p)
			page := p.Pages()[0]
			if err := page.check(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
