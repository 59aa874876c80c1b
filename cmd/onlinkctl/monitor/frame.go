package monitor

import (
	"strings"

	"github.com/clipperhouse/displaywidth"
)

// Tone is how a line looks; each is readable without colours.
type Tone uint8

// The tones.
const (
	Plain Tone = iota
	Title
	Dim
	Good
	Warn
	Bad
)

// Line is one line of the screen.
type Line struct {
	Text     string
	Tone     Tone
	Selected bool // the cursor is on it; its text begins with ">"
}

// Frame is the whole screen, from the top.
type Frame []Line

// String returns the frame as plain text.
func (f Frame) String() string {
	var b strings.Builder
	for _, l := range f {
		b.WriteString(strings.TrimRight(l.Text, " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// ellipsis ends a text that was cut.
const ellipsis = "…"

// cut returns a text in at most width columns.
func cut(text string, width int) string {
	return displaywidth.TruncateString(text, max(width, 0), ellipsis)
}

// pad returns a text in exactly width columns.
func pad(text string, width int, right bool) string {
	text = cut(text, width)
	space := strings.Repeat(" ", max(0, width-displaywidth.String(text)))
	if right {
		return space + text
	}
	return text + space
}

// ends returns a line with one text at each end; the left one is cut.
func ends(left, right string, width int) string {
	room := width - displaywidth.String(right) - 1
	if right == "" || room < 1 {
		return cut(left, width)
	}
	return pad(left, room, false) + " " + right
}

// wrap breaks a text into lines of at most width columns, between words where it can.
// The spaces at its beginning, and inside the columns of a table, stay.
func wrap(text string, width int) (out []string) {
	width = max(width, 1)
	for displaywidth.String(text) > width {
		head := displaywidth.TruncateString(text, width, "")
		if head == "" {
			break // one character is wider than the screen
		}
		if i := strings.LastIndexByte(head, ' '); i > 0 && strings.TrimSpace(head[:i]) != "" && text[len(head)] != ' ' {
			head = head[:i]
		}
		out = append(out, head)
		text = strings.TrimLeft(text[len(head):], " ")
	}
	return append(out, text)
}
