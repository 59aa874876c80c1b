package monitor

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 10, []string{""}},
		{"short", 10, []string{"short"}},
		{"two words here", 9, []string{"two words", "here"}},
		{"two words here", 10, []string{"two words", "here"}},
		{"unbreakable", 4, []string{"unbr", "eaka", "ble"}},
		{"  kept at the start", 10, []string{"  kept at", "the start"}},
		{"日本語です", 4, []string{"日本", "語で", "す"}},
		{"日本", 1, []string{"日本"}}, // no character fits
	} {
		if diff := cmp.Diff(tt.want, wrap(tt.text, tt.width)); diff != "" {
			t.Errorf("%q in %d (-want +got):\n%s", tt.text, tt.width, diff)
		}
	}
}

// TestTable: columns that have no place are left out, those with the highest spare first.
func TestTable(t *testing.T) {
	t.Parallel()
	columns := []column{{name: "A"}, {name: "B", spare: 1}, {name: "C", spare: 2, right: true}, {name: "D"}}
	rows := [][]string{{"aaaa", "bbbb", "1", "a long text at the end"}}
	for _, tt := range []struct {
		width int
		head  string
		line  string
	}{
		{30, "A     B     C  D", "aaaa  bbbb  1  a long text at the end"},
		{26, "A     B     D", "aaaa  bbbb  a long text at the end"},
		{24, "A     D", "aaaa  a long text at the end"},
		{20, "A     D", "aaaa  a long text at the end"},
	} {
		head, lines := table(columns, rows, tt.width)
		if head != tt.head || len(lines) != 1 || lines[0] != tt.line {
			t.Errorf("in %d:\n%q\n%q", tt.width, head, lines)
		}
	}
}

// TestLongName: one long name hides no other column.
func TestLongName(t *testing.T) {
	t.Parallel()
	head, lines := table([]column{{name: "A"}, {name: "B"}}, [][]string{{"a name of more than twenty columns", "b"}}, 60)
	if want := "A                     B"; head != want {
		t.Errorf("%q, want %q", head, want)
	}
	if want := "a name of more than…  b"; len(lines) != 1 || lines[0] != want {
		t.Errorf("%q, want %q", lines, want)
	}
}

// TestHeights: the panes fill the screen, and the one with the cursor has room first.
func TestHeights(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		needs, least []int
		focus, room  int
		want         []int
	}{
		{[]int{100, 2, 4, 100}, []int{3, 2, 3, 2}, 0, 18, []int{11, 2, 3, 2}},
		{[]int{100, 2, 4, 100}, []int{3, 2, 3, 2}, 3, 18, []int{3, 2, 3, 10}},
		{[]int{100, 9, 4, 100}, []int{3, 2, 3, 2}, 1, 18, []int{4, 9, 3, 2}},
		{[]int{3, 2, 3, 2}, []int{3, 2, 3, 2}, 0, 18, []int{3, 2, 3, 10}},
	} {
		if diff := cmp.Diff(tt.want, heights(tt.needs, tt.least, tt.focus, tt.room)); diff != "" {
			t.Errorf("%v, focus %d (-want +got):\n%s", tt.needs, tt.focus, diff)
		}
	}
}
