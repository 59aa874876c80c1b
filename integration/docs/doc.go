// Package docs plays the pages of the documentation: README.md and those of docs. Every
// command of a page runs in the order of the page, as root, on hosts that the page
// names, and prints what the page shows. So a page that is wrong fails a test.
//
// What a page says to this package stands in the page itself, where Markdown shows
// nothing of it: behind the language of a code block,
//
//	sh on=r1n1                  runs on that host; exit=1: and ends with that code
//	console on=r1n1             the same line by line; prints what follows each line
//	yaml file=/etc/F on=r1n1    is written to that file; without file=, it is checked
//	sh not-run: needs a cluster says why it does not run
//
// and at its beginning, in a comment, which hosts there are (see [Bed]):
//
//	<!-- bed: rack tors=2 -->
//
// A block is compared by [Differ], which leaves out what no two runs have in common.
package docs
