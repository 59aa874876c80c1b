package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrInvalid wraps every mistake in a file: errors.Is(err, ErrInvalid)
// distinguishes a file that must be corrected from one that could not be read.
var ErrInvalid = errors.New("invalid configuration")

// Error is one mistake in a file.
type Error struct {
	File  string // as given to [Parse]
	Line  int    // from 1; 0 when the mistake belongs to no line
	Field string // path of the field, such as servers[1].port; "" for the file itself
	Text  string // the mistake and, after a semicolon, the remedy
}

// Error returns one line: file:line: field: mistake; remedy.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field)
		b.WriteString(": ")
	}
	b.WriteString(e.Text)
	return b.String()
}

// Is makes every Error match [ErrInvalid].
func (e *Error) Is(target error) bool { return target == ErrInvalid }

// Errors is the mistakes of one file, in the order of its lines; where there
// are more than [MaxMistakes], that many and as the last one how many more.
type Errors []*Error

// Error returns one line per mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As search the list.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// Sort puts the mistakes into the order of the file.
func (e Errors) Sort() {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field))
	})
}
