package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"path/filepath"
	"strings"
)

// Sizes in pixels. A letter's width is that of most sans-serif fonts at their widest, so
// that texts fit whatever font a reader has.
const (
	letter     = 7.2 // of a box's text
	small      = 6.2 // of an arrow's text
	lineHeight = 17
	padding    = 12
	rowGap     = 46
	minGap     = 40
	margin     = 24
	titleSpace = 56 // also for the text of a frame around the first row
	frameSpace = 14
)

// grid says where columns and rows lie.
type grid struct {
	left, width []float64 // of each column
	top, height []float64 // of each row
}

// layout makes each column as wide as its widest box, each row as high as its highest,
// and the space between columns as wide as the texts of arrows that cross it alone.
func (p *picture) layout() grid {
	last := cell{}
	for _, b := range p.boxes {
		last.col, last.row = max(last.col, b.at.col), max(last.row, b.at.row)
	}
	for _, f := range p.frames {
		last.col, last.row = max(last.col, f.to.col), max(last.row, f.to.row)
	}
	g := grid{make([]float64, last.col+1), make([]float64, last.col+1), make([]float64, last.row+1), make([]float64, last.row+1)}
	for _, b := range p.boxes {
		for _, line := range b.lines {
			g.width[b.at.col] = math.Max(g.width[b.at.col], float64(len([]rune(line)))*letter+2*padding)
		}
		g.height[b.at.row] = math.Max(g.height[b.at.row], float64(len(b.lines)*lineHeight)+2*padding)
	}
	gap := make([]float64, last.col+1) // right of each column
	for i := range gap {
		gap[i] = minGap
	}
	for _, a := range p.arrows {
		left := min(a.from.at.col, a.to.at.col)
		if right := max(a.from.at.col, a.to.at.col); right == left+1 {
			gap[left] = math.Max(gap[left], float64(len([]rune(a.text)))*small+2*padding)
		}
	}
	x := float64(margin)
	for i := range g.left {
		g.left[i] = x
		x += g.width[i] + gap[i]
	}
	y := float64(margin + titleSpace)
	for i := range g.top {
		g.top[i] = y
		y += g.height[i] + rowGap
	}
	return g
}

// rect is a rectangle by its corners.
type rect struct{ x1, y1, x2, y2 float64 }

func (r rect) centre() (x, y float64) { return (r.x1 + r.x2) / 2, (r.y1 + r.y2) / 2 }

// edge returns where a line from the centre towards another point leaves the rectangle.
func (r rect) edge(x, y float64) (ex, ey float64) {
	cx, cy := r.centre()
	dx, dy := x-cx, y-cy
	scale := math.Inf(1)
	if dx != 0 {
		scale = math.Min(scale, (r.x2-r.x1)/2/math.Abs(dx))
	}
	if dy != 0 {
		scale = math.Min(scale, (r.y2-r.y1)/2/math.Abs(dy))
	}
	return cx + dx*scale, cy + dy*scale
}

// area returns the rectangle of a box.
func (g grid) area(b *box) rect {
	c := b.at
	return rect{g.left[c.col], g.top[c.row], g.left[c.col] + g.width[c.col], g.top[c.row] + g.height[c.row]}
}

// around returns the rectangle of a frame.
func (g grid) around(f frame) rect {
	return rect{
		g.left[f.from.col] - frameSpace, g.top[f.from.row] - frameSpace - lineHeight,
		g.left[f.to.col] + g.width[f.to.col] + frameSpace, g.top[f.to.row] + g.height[f.to.row] + frameSpace,
	}
}

const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" font-family="sans-serif" font-size="13">
<!-- made of %s by tools/pictures: edit that, then run make reference -->
<title>%s</title>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="#444"/></marker></defs>
<rect width="100%%" height="100%%" fill="#fff"/>
<text x="%d" y="%d" font-size="16" font-weight="bold">%s</text>
`

// svg draws the picture: frames behind arrows, arrows behind boxes, their texts in front.
func (p *picture) svg() string {
	g := p.layout()
	var out, texts strings.Builder
	last := len(g.left) - 1
	width := math.Max(g.left[last]+g.width[last]+margin, float64(len([]rune(p.title)))*9.5+2*margin)
	height := g.top[len(g.top)-1] + g.height[len(g.height)-1] + margin
	fmt.Fprintf(&out, head, width, height, width, height, filepath.Base(p.source), escape(p.title), margin, margin+8, escape(p.title))
	for _, f := range p.frames {
		r := g.around(f)
		fmt.Fprintf(&out, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" rx=\"8\" fill=\"#f4f6f8\" stroke=\"#9aa5b1\" stroke-dasharray=\"5 4\"/>\n", r.x1, r.y1, r.x2-r.x1, r.y2-r.y1)
		fmt.Fprintf(&out, "<text x=\"%.0f\" y=\"%.0f\" font-size=\"12\" fill=\"#52606d\">%s</text>\n", r.x1+8, r.y1+15, escape(f.text))
	}
	for _, a := range p.arrows {
		from, to := g.area(a.from), g.area(a.to)
		fx, fy := from.centre()
		tx, ty := to.centre()
		x1, y1 := from.edge(tx, ty)
		x2, y2 := to.edge(fx, fy)
		dash := ""
		if a.dashed {
			dash = ` stroke-dasharray="6 4"`
		}
		fmt.Fprintf(&out, "<line x1=\"%.0f\" y1=\"%.0f\" x2=\"%.0f\" y2=\"%.0f\" stroke=\"#444\" stroke-width=\"1.5\"%s marker-end=\"url(#tip)\"/>\n", x1, y1, x2, y2, dash)
		if a.text != "" {
			w := float64(len([]rune(a.text))) * small
			x, y := labelAt(x1, y1, x2, y2, w)
			fmt.Fprintf(&texts, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"15\" fill=\"#fff\" fill-opacity=\"0.85\"/>\n", x-w/2-2, y-11, w+4)
			fmt.Fprintf(&texts, "<text x=\"%.0f\" y=\"%.0f\" font-size=\"11\" text-anchor=\"middle\" fill=\"#333\">%s</text>\n", x, y, escape(a.text))
		}
	}
	for _, b := range p.boxes {
		r := g.area(b)
		fmt.Fprintf(&out, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" rx=\"4\" fill=\"#e3f2fd\" stroke=\"#1565c0\"/>\n", r.x1, r.y1, r.x2-r.x1, r.y2-r.y1)
		cx, cy := r.centre()
		for i, line := range b.lines {
			y := cy + float64(i)*lineHeight - float64(len(b.lines)-1)*lineHeight/2 + 5
			weight := ""
			if i == 0 {
				weight = ` font-weight="bold"`
			}
			fmt.Fprintf(&out, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\"%s>%s</text>\n", cx, y, weight, escape(line))
		}
	}
	return out.String() + texts.String() + "</svg>\n"
}

// labelAt returns the middle of the base line of an arrow's text of that width: above a
// level line, right of an upright one, and near the beginning of a slanted one, because
// what slanted lines cross is mostly in the middle.
func labelAt(x1, y1, x2, y2, width float64) (x, y float64) {
	switch {
	case math.Abs(y2-y1) < 1:
		return (x1 + x2) / 2, y1 - 8
	case math.Abs(x2-x1) < 1:
		return x1 + width/2 + 8, (y1+y2)/2 + 4
	}
	return x1 + (x2-x1)/3, y1 + (y2-y1)/3
}

// escape returns text as it stands in XML.
func escape(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) // a strings.Builder fails no write
	return out.String()
}
