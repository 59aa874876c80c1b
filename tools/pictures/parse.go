package main

import (
	"errors"
	"fmt"
	"strings"
)

// picture is what a text says.
type picture struct {
	source string // the text's file
	title  string
	boxes  []*box
	frames []frame
	arrows []arrow
}

// cell is a place in the grid, from 0,0 at the top left.
type cell struct{ col, row int }

type box struct {
	name  string
	at    cell
	lines []string
}

type frame struct {
	from, to cell
	text     string
}

type arrow struct {
	from, to *box
	text     string
	dashed   bool
}

var errLine = errors.New("write title TEXT, box NAME COL,ROW TEXT, frame COL,ROW COL,ROW TEXT, or arrow (dash) FROM TO TEXT")

// parse reads a text; file is its name.
func parse(file, text string) (*picture, error) {
	p := &picture{source: file}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := p.read(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %q: %w", file, i+1, line, err)
		}
	}
	if p.title == "" || len(p.boxes) == 0 {
		return nil, fmt.Errorf("%s: no title or no box", file)
	}
	return p, nil
}

// read takes one line.
func (p *picture) read(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	w := strings.SplitN(rest, " ", 3)
	switch {
	case verb == "title":
		p.title = rest
		return nil
	case verb == "box" && len(w) == 3:
		return p.addBox(w[0], w[1], w[2])
	case verb == "frame" && len(w) == 3:
		return p.addFrame(w[0], w[1], w[2])
	case (verb == "arrow" || verb == "dash") && len(w) >= 2:
		return p.addArrow(w[0], w[1], strings.Join(w[2:], ""), verb == "dash")
	}
	return errLine
}

func (p *picture) addBox(name, place, text string) error {
	at, err := readCell(place)
	if err != nil {
		return err
	}
	for _, b := range p.boxes {
		if b.name == name || b.at == at {
			return fmt.Errorf("the box %s has that name or place", b.name)
		}
	}
	p.boxes = append(p.boxes, &box{name, at, strings.Split(text, "|")})
	return nil
}

func (p *picture) addFrame(first, last, text string) error {
	from, err := readCell(first)
	if err != nil {
		return err
	}
	to, err := readCell(last)
	if err != nil {
		return err
	}
	p.frames = append(p.frames, frame{from, to, text})
	return nil
}

func (p *picture) addArrow(first, last, text string, dashed bool) error {
	from, to := p.box(first), p.box(last)
	if from == nil || to == nil || from == to {
		return errors.New("both ends must be boxes above, and different")
	}
	p.arrows = append(p.arrows, arrow{from, to, text, dashed})
	return nil
}

func readCell(text string) (c cell, err error) {
	if n, err := fmt.Sscanf(text, "%d,%d", &c.col, &c.row); n != 2 || err != nil || c.col < 0 || c.row < 0 {
		return c, fmt.Errorf("%q is no place, as 0,1 is", text)
	}
	return c, nil
}

// box returns the box of a name, nil for none.
func (p *picture) box(name string) *box {
	for _, b := range p.boxes {
		if b.name == name {
			return b
		}
	}
	return nil
}
