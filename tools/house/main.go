package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("house", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	all := flags.Bool("all", false, "print every figure, not only those with a single goal and those beyond it")
	why := flags.String("why", "", "print what the figure of this `name` counts")
	tighten := flags.Bool("tighten", false, "lower the bounds to what the tree has now")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	tree, err := load(root)
	if err != nil {
		return err
	}
	figures := measure(tree)
	present, err := parseBounds(boundsFile)
	if err != nil {
		return err
	}
	switch {
	case *why != "":
		return explain(out, figures, *why)
	case *tighten:
		return os.WriteFile(filepath.Join(root, "tools/house/bounds.txt"), []byte(present.tightened(figures).String()), 0o644) //nolint:gosec // source
	}
	return printFigures(out, figures, present, *all)
}

const usage = `house prints figures of this tree's structure beside their goals and present bounds.

agent/*        files and lines of package agent; test lines by code lines of agent and below
methods/*      methods declared on a type
back-uses/*    of the uses between a package's files, the share that runs back up in the best
               order of the files: A uses B when A names something declared in B; names are
               resolved with types; each pair of files counts once
imports/*      files that import a library outside the rooms that may
identity/*     definitions of a value by which onlink knows its own things in the kernel

Tests and generated files do not count. go doc ./tools/house has the definitions.

`

func explain(out io.Writer, figures []figure, name string) error {
	for _, f := range figures {
		if f.name != name {
			continue
		}
		for _, n := range f.counted {
			if _, err := fmt.Fprintln(out, n); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no figure %q: -all lists them", name)
}

func printFigures(out io.Writer, figures []figure, present bounds, all bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tNOW\tGOAL\tBOUND\t")
	for _, f := range figures {
		_, bounded := present[f.name]
		if !all && !bounded && f.many && f.reached() {
			continue
		}
		note := ""
		switch b := present.of(f); {
		case !f.within(b):
			note = "worse than its bound"
		case f.better(b):
			note = "better than its bound: -tighten"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.name, f.text(f.value), f.text(f.goal), f.text(present.of(f)), note)
	}
	return w.Flush()
}

//go:embed bounds.txt
var boundsFile string

// moduleRoot is the folder of the go.mod that the working directory is under.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find go.mod: none above the working directory; run in onlink's tree")
		}
		dir = up
	}
}
