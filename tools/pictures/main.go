// Command pictures makes the pictures of the documentation (SVG) of their texts: boxes in
// a grid, frames around them, arrows between them.
//
//	go run ./tools/pictures                     # of docs/pictures/*.txt
//	go run ./tools/pictures docs/pictures/x.txt
//
// A text has one thing a line:
//
//	title TEXT
//	box NAME COLUMN,ROW TEXT            | begins another line in the box
//	frame COLUMN,ROW COLUMN,ROW TEXT    around all cells between these
//	arrow FROM TO TEXT                  dash: the same with a broken line
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	if len(files) == 0 {
		var err error
		if files, err = filepath.Glob("docs/pictures/*.txt"); err != nil || len(files) == 0 {
			return fmt.Errorf("no docs/pictures/*.txt: run it in the tree's folder (%w)", err)
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		p, err := parse(file, string(text))
		if err != nil {
			return err
		}
		if err := os.WriteFile(strings.TrimSuffix(file, ".txt")+".svg", []byte(p.svg()), 0o644); err != nil { //nolint:gosec // source
			return err
		}
	}
	return nil
}
