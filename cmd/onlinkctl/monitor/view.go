package monitor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/clipperhouse/displaywidth"
)

// The least size of a terminal.
const (
	LeastWidth  = 60
	LeastHeight = 17
)

// Frame draws the screen. Its work is bounded by the size: rows that are not on the
// screen are not written.
func (m *Model) Frame(width, height int, now time.Time) Frame {
	if width < LeastWidth || height < LeastHeight {
		text := fmt.Sprintf("The terminal is %dx%d; onlinkctl monitor needs %dx%d.", width, height, LeastWidth, LeastHeight)
		out := Frame{}
		for _, line := range wrap(text, width) {
			out = append(out, Line{Text: line})
		}
		return out[:min(len(out), max(height, 0))]
	}
	out := m.head(width, now)
	room := height - len(out) - 1
	if n := len(m.pages); n > 0 {
		out = append(out, m.page(&m.pages[n-1], width, room, now)...)
	} else {
		out = append(out, m.lists(width, room, now)...)
	}
	for len(out) < height-1 {
		out = append(out, Line{})
	}
	return append(out, m.foot(width))
}

// page draws an open page.
func (m *Model) page(p *opened, width, room int, now time.Time) Frame {
	title, text := p.text(&m.board, now)
	var lines []string
	for _, l := range text {
		lines = append(lines, wrap(l, width)...)
	}
	p.room = room - 1
	p.top = max(0, min(p.top, len(lines)-p.room))
	end := min(p.top+p.room, len(lines))
	where := ""
	if p.room < len(lines) {
		where = fmt.Sprintf("lines %d-%d of %d", p.top+1, end, len(lines))
	}
	out := Frame{rule(title, where, width, true)}
	for _, l := range lines[p.top:end] {
		out = append(out, Line{Text: l})
	}
	return out
}

// rule is the line above a pane or page.
func rule(name, beside string, width int, focus bool) Line {
	if beside != "" {
		beside = " " + beside
	}
	room := width - displaywidth.String(beside)
	left := cut("── "+name, room-4) + " "
	fill := strings.Repeat("─", max(0, room-displaywidth.String(left)))
	tone := Dim
	if focus {
		tone = Title
	}
	return Line{Text: cut(left+fill+beside, width), Tone: tone}
}

// lists draws the panes.
func (m *Model) lists(width, room int, now time.Time) (out Frame) {
	needs, least := make([]int, len(m.panes)), make([]int, len(m.panes))
	for i, p := range m.panes {
		least[i] = 2 // its rule and one row
		if len(p.columns()) > 0 {
			least[i]++
		}
		needs[i] = least[i] - 1 + max(1, m.count(i))
	}
	for i, h := range heights(needs, least, m.focus, room) {
		out = append(out, m.list(i, width, h, now)...)
	}
	return out
}

// heights shares the lines of the screen among the panes: the least that each needs,
// then the pane with the cursor first.
func heights(needs, least []int, focus, room int) []int {
	out := make([]int, len(needs))
	for i := range out {
		out[i] = least[i]
		room -= least[i]
	}
	give := func(i, n int) {
		n = max(0, min(n, room, needs[i]-out[i]))
		out[i] += n
		room -= n
	}
	give(focus, room)
	for i := range out {
		give(i, room)
	}
	out[len(out)-1] += max(room, 0)
	return out
}

// list draws one pane in exactly height lines.
func (m *Model) list(i, width, height int, now time.Time) Frame {
	p, v, n := m.panes[i], &m.views[i], m.count(i)
	focus := i == m.focus
	name := p.name()
	if v.filter != "" {
		name += " with " + strconv.Quote(v.filter)
	}
	columns := p.columns()
	v.room = height - 1
	if len(columns) > 0 {
		v.room--
	}
	v.top = max(0, min(v.top, v.at, n-v.room), v.at-v.room+1)
	end := min(v.top+v.room, n)
	where := p.summary(&m.board)
	if end-v.top < n {
		where = strings.TrimPrefix(fmt.Sprintf("%s; %d-%d of %d", where, v.top+1, end, n), "; ")
	}
	out := Frame{rule(name, where, width, focus)}
	rows := make([]row, 0, end-v.top)
	cells := make([][]string, 0, end-v.top)
	for at := v.top; at < end; at++ {
		r := p.row(&m.board, m.index(i, at), now)
		rows, cells = append(rows, r), append(cells, r.cells)
	}
	var lines []string
	if len(columns) > 0 {
		var head string
		head, lines = table(columns, cells, width)
		out = append(out, Line{Text: cut("  "+head, width), Tone: Dim})
	} else {
		for _, c := range cells {
			lines = append(lines, c[0])
		}
	}
	for k, text := range lines {
		line := Line{Text: cut("  "+text, width), Tone: rows[k].tone}
		if focus && v.top+k == v.at {
			line.Text, line.Selected = pad("> "+text, width, false), true
		}
		out = append(out, line)
	}
	if n == 0 {
		out = append(out, Line{Text: "  none", Tone: Dim})
	}
	for len(out) < height {
		out = append(out, Line{})
	}
	return out
}

// foot is the keys, or the filter that is typed.
func (m *Model) foot(width int) Line {
	switch {
	case m.typing:
		return Line{Text: cut("/"+m.views[m.focus].filter+"▏ Enter keeps the filter, Esc ends it", width), Tone: Title}
	case len(m.pages) > 0:
		return Line{Text: cut("Up/Down scroll  Esc back  p pause  ? help  q quit", width), Tone: Dim}
	}
	return Line{Text: cut("Tab pane  Up/Down move  Enter open  / filter  p pause  ? help  q quit", width), Tone: Dim}
}
