package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const folder = "../../docs/pictures/"

// TestCurrent: each picture in docs is that of its text, and some page shows it.
func TestCurrent(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(folder + "*.txt")
	if err != nil || len(files) < 4 {
		t.Fatalf("only %d texts: %v", len(files), err)
	}
	var pages strings.Builder
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "../../README.md", "../../DESIGN.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pages.Write(text)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parse(file, string(text))
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt") + ".svg"
		have, err := os.ReadFile(folder + name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p.svg(), string(have)); diff != "" {
			t.Errorf("%s: run make reference (-want +have):\n%s", name, diff)
		}
		if !strings.Contains(pages.String(), "pictures/"+name+")") {
			t.Errorf("no page shows %s", name)
		}
	}
}

// TestFits: a picture is XML, all of it lies inside its frame, and no box lies on another.
func TestFits(t *testing.T) {
	t.Parallel()
	p, err := parse("x.txt", "title A <b> & c\nbox a 0,0 one|two words\nbox b 2,1 far\nbox c 1,0 next\nframe 0,0 1,0 here\narrow a c long text on it\ndash c b\n")
	if err != nil {
		t.Fatal(err)
	}
	g := p.layout()
	for i, a := range p.boxes {
		for _, b := range p.boxes[i+1:] {
			r, s := g.area(a), g.area(b)
			if r.x1 < s.x2 && s.x1 < r.x2 && r.y1 < s.y2 && s.y1 < r.y2 {
				t.Errorf("%s lies on %s", a.name, b.name)
			}
		}
	}
	if room := g.area(p.box("c")).x1 - g.area(p.box("a")).x2; room < float64(len("long text on it"))*small {
		t.Errorf("%.0f pixels for an arrow's text", room)
	}
	d := xml.NewDecoder(strings.NewReader(p.svg()))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(p.svg(), "A &lt;b&gt; &amp; c") || regexp.MustCompile(`="-\d`).MatchString(p.svg()) {
		t.Errorf("text that is no XML, or a place outside:\n%s", p.svg())
	}
}

// TestMistakes: what no picture can be made of is refused with its line.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no title": "box a 0,0 x", "no box": "title x", "no place": "title x\nbox a here x", "two in a place": "title x\nbox a 0,0 x\nbox b 0,0 y",
		"two of a name": "title x\nbox a 0,0 x\nbox a 1,0 y", "an arrow to nothing": "title x\nbox a 0,0 x\narrow a b y", "another word": "title x\ncircle a 0,0", "a frame without a text": "title x\nbox a 0,0 x\nframe 0,0 1,1",
	} {
		if p, err := parse("x.txt", text); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
