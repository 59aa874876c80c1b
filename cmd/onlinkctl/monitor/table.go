package monitor

import (
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// column is a column of a pane. The last one of a table takes the space that is left.
type column struct {
	name  string
	right bool
	spare int // the column with the highest one is left out first; 0: never
}

const (
	columnGap = 2
	// A column has at most the width divided by columnShare: one long name
	// would hide all other columns.
	columnShare = 3
	// lastLeast is what the last column should have.
	lastLeast = 12
	// margin is the place of the cursor.
	margin = 2
)

// table returns the lines of a table's head and rows in width columns. Only rows that are
// on the screen come here.
func table(columns []column, rows [][]string, width int) (head string, lines []string) {
	widths := make([]int, len(columns))
	for c := range columns {
		most := width / columnShare
		if c == len(columns)-1 {
			most = width
		}
		widths[c] = displaywidth.String(columns[c].name)
		for _, r := range rows {
			widths[c] = max(widths[c], min(displaywidth.String(r[c]), most))
		}
	}
	shown := fit(columns, widths, width-margin)
	names := make([]string, len(columns))
	for c := range columns {
		names[c] = columns[c].name
	}
	line := func(cells []string) string {
		var b strings.Builder
		for i, c := range shown {
			if i == len(shown)-1 {
				b.WriteString(cells[c])
				break
			}
			b.WriteString(pad(cells[c], widths[c], columns[c].right))
			b.WriteString(strings.Repeat(" ", columnGap))
		}
		return b.String()
	}
	for _, r := range rows {
		lines = append(lines, line(r))
	}
	return line(names), lines
}

// fit returns the columns that have a place.
func fit(columns []column, widths []int, width int) (shown []int) {
	for c := range columns {
		shown = append(shown, c)
	}
	for {
		used, spare, last := 0, -1, shown[len(shown)-1]
		for i, c := range shown[:len(shown)-1] {
			used += widths[c] + columnGap
			if columns[c].spare > 0 && (spare < 0 || columns[c].spare > columns[shown[spare]].spare) {
				spare = i
			}
		}
		if width-used >= min(lastLeast, widths[last]) || spare < 0 {
			return shown
		}
		shown = append(shown[:spare:spare], shown[spare+1:]...)
	}
}
