// Command generated notes of which files the generated ones were made, so that a
// test finds those that are not current without the generators, which take minutes
// to build:
//
//	go run ./tools/generated          # what is not current
//	go run ./tools/generated -write   # note that all are: make generate does
//
// The notes are in tools/generated/sums.txt.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generated:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("generated", flag.ExitOnError)
	root := flags.String("root", ".", "`folder` of the tree")
	write := flags.Bool("write", false, "note that all are current")
	if err := flags.Parse(args); err != nil {
		return err
	}
	file := filepath.Join(*root, sumsFile)
	if *write {
		have, err := sums(*root)
		if err != nil {
			return err
		}
		return os.WriteFile(file, []byte(have.String()), 0o644) //nolint:gosec // source
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return check(*root, parse(string(text)))
}
