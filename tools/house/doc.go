// House measures the structure of this tree and holds it to bounds. It needs
// the standard library and the go command only.
//
//	go run ./tools/house            # the figures that have a goal, and those beyond it
//	go run ./tools/house -all       # every figure
//	go run ./tools/house -why NAME  # what a figure counts, place by place
//	go run ./tools/house -tighten   # lower bounds.txt to what the tree has now
//
// Go files are counted, no tests and nothing generated, unless a line says
// otherwise. Names in files of another platform or build tag are not resolved.
//
// # Figures
//
// agent/files, agent/lines: the package agent, without the packages below it,
// whatever the build tags. Lines are those of the file, comments and blank ones
// too.
//
// agent/tests: lines of tests by lines of code, of agent and the packages below
// it.
//
// methods/TYPE: methods declared on a type, exported or not. Promoted methods
// count where they are declared.
//
// back-uses/PACKAGE: the share of uses between the files of a package that run
// back up. File A uses file B when A names something that is declared in B: a
// type, function, variable, constant, method or field. Names are resolved with
// types, so that a local variable is never taken for a function of its name.
// Each pair of files counts once. The files are put in the order in which the
// fewest uses run from a later file to an earlier one; those are the uses that
// run back up, and the figure is their share of all. A package whose files can
// be read from top to bottom has 0 %; one with fewer than ten uses between its
// files has no figure. The order is found by local search from
// many starts, with the same result on every run.
//
// imports/LIBRARY: files that import a library outside the rooms that may, see
// libraries in imports.go. Package integration and what is below it are left
// out: whole-system tests play the other side of every protocol.
//
// identity/THING: how often a value by which onlink knows its own things in the
// kernel is written down, see identities in identity.go. A constant that is
// defined by another one is no second definition. Package integration is left
// out here too: what checks an identity must not take it from what it checks.
//
// # Bounds
//
// Every figure has a goal. Where the tree is not there yet, bounds.txt has the
// value of today, and TestBounds fails on anything worse. A bound goes down
// only: -tighten never raises one.
package main
