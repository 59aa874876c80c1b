package main

import (
	"bufio"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Goals, see doc.go for what they are of.
const (
	goalAgentFiles = 15
	goalAgentLines = 1800
	goalAgentTests = 0.5
	goalMethods    = 40
	goalBackUses   = 15 // per cent
)

// fewUses is the number of uses below which a share of them is no figure: one of
// two is half.
const fewUses = 10

// figure is one measured value and its goal.
type figure struct {
	name    string
	value   float64
	goal    float64
	atLeast bool     // the goal is a lower limit, otherwise an upper one
	percent bool     // value and goal are percentages
	many    bool     // one of many of its kind, of which only the bad ones are of interest
	exact   bool     // being below the goal is a failure too
	counted []string // the places that were counted
}

// within reports whether the value keeps a bound.
func (f figure) within(bound float64) bool {
	switch {
	case f.exact && f.value < f.goal:
		return false
	case f.atLeast:
		return f.value >= bound
	}
	return f.value <= bound
}

func (f figure) reached() bool { return f.within(f.goal) }

// better reports whether the bound could be set closer to the goal.
func (f figure) better(bound float64) bool { return f.within(bound) && f.closer(bound) != bound }

// closer returns what the bound can be tightened to: the value, never beyond
// the goal.
func (f figure) closer(bound float64) float64 {
	if f.atLeast {
		return min(max(f.value, bound), f.goal)
	}
	return max(min(f.value, bound), f.goal)
}

func (f figure) text(v float64) string {
	out := strconv.FormatFloat(v, 'f', -1, 64)
	if f.percent {
		out += " %"
	}
	return out
}

// rounded returns a share as it is printed and bounded. It is rounded to the
// worse side, up: a bound that was written from a figure holds that figure.
func rounded(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return max(0, math.Ceil(v*p-1e-9)/p) // no negative zero
}

// bounds are the figures that have not reached their goal: what they may be at
// the worst.
type bounds map[string]float64

// of returns the bound of a figure: its goal where the table has none.
func (b bounds) of(f figure) float64 {
	if v, ok := b[f.name]; ok {
		return v
	}
	return f.goal
}

// tightened returns the bounds that the figures allow: none worse than before,
// none where the goal is reached, none of what is there no more.
func (b bounds) tightened(figures []figure) bounds {
	out := bounds{}
	for _, f := range figures {
		was, ok := b[f.name]
		if !ok {
			continue
		}
		if now := f.closer(was); now != f.goal {
			out[f.name] = now
		}
	}
	return out
}

const boundsHeader = `# Present bounds of the figures that have not reached their goal; those that are
# not listed are held to it. "go run ./tools/house -tighten" lowers them.
`

// String returns the file's text.
func (b bounds) String() string {
	var out strings.Builder
	out.WriteString(boundsHeader)
	for _, name := range slices.SortedFunc(maps.Keys(b), cmp.Compare[string]) {
		fmt.Fprintf(&out, "%s %s\n", name, strconv.FormatFloat(b[name], 'f', -1, 64))
	}
	return out.String()
}

// parseBounds reads lines of a name and a number; # begins a comment.
func parseBounds(text string) (bounds, error) {
	out := bounds{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("bounds.txt:%d: want a name and a number, not %q", n, line)
		}
		v, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return nil, fmt.Errorf("bounds.txt:%d: %w", n, err)
		}
		if _, twice := out[fields[0]]; twice {
			return nil, fmt.Errorf("bounds.txt:%d: %s is bounded twice", n, fields[0])
		}
		out[fields[0]] = v
	}
	return out, lines.Err()
}
