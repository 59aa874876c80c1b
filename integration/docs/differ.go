package docs

import (
	"fmt"
	"regexp"
	"strings"
)

// varies are the parts of an output that no two runs have in common, and what stands
// for them in both when they are compared.
var varies = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?( ?(Z|UTC|[+-]\d\d:?\d\d))?`), "DATE"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?\b`), "CLOCK"},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(d|h|ms|µs|m|s))+( ago)?\b`), "TIME"},
	{regexp.MustCompile(`^Last error: TIME: connect: dial tcp \S+ connect: connection refused \(before the present session\)$`), ""},
	{regexp.MustCompile(`\bTIME: connect: dial tcp \S+ connect: connection refused$`), "-"}, // before the peer listened
	{regexp.MustCompile(`\b(Idle|Connect|Active)\b`), "DOWN"},                               // they follow each other until the session is up
	{regexp.MustCompile(`\bfe80::[0-9a-f:]+`), "LINKLOCAL"},
	{regexp.MustCompile(`\bonl[0-9a-f]{11}\b`), "DEVICE"},
	{regexp.MustCompile(`@if\d+\b`), "@ifN"},
	{regexp.MustCompile(`\b[0-9]{13,}\b`), "NUMBER"}, // epochs: nanoseconds
	{regexp.MustCompile(`\b[0-9a-f]{12,}\b`), "ID"},
	{regexp.MustCompile(`\bof pid \d+ [^ )]+`), "of pid N PROGRAM"}, // a person's shell, or this test
	{regexp.MustCompile(`\b(pid|uid) \d+`), "$1 N"},
	{regexp.MustCompile(`\b(time|ttl|icmp_seq|mdev)=[\d.]+( ms)?`), "$1=N"},
	{regexp.MustCompile(`\bBIRD [\d.]+ ready`), "BIRD N ready"},
	{regexp.MustCompile(`\d+(\.\d+)?/\d+(\.\d+)?/\d+(\.\d+)?/\d+(\.\d+)? ms`), "RTT"},
	{regexp.MustCompile(`\(devel\)|\bv?\d+\.\d+\.\d+[\w.+-]*-\d+-g[0-9a-f]+\S*|\bv0\.0\.0-\S+`), "VERSION"},
}

// normal returns a line with one space between words and names in the place of what
// varies.
func normal(line string) string {
	line = strings.Join(strings.Fields(line), " ")
	for _, v := range varies {
		line = v.what.ReplaceAllString(line, v.name)
	}
	return line
}

func lines(text string) (out []string) {
	for line := range strings.Lines(text) {
		if line = normal(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// Differ returns why an output is not what a page shows, or nil. The width of columns,
// empty lines, and times, dates, epochs, IDs, names of pods' devices, MAC addresses,
// versions, the state of a session that is not up, and whether a peer listened at the
// first try may differ. A line "..." in the page stands for any lines.
func Differ(shown, got string) error {
	want, have := lines(shown), lines(got)
	skip := false
	for _, line := range want {
		switch {
		case line == "...":
			skip = true
			continue
		case skip:
			for len(have) > 0 && have[0] != line {
				have = have[1:]
			}
		}
		if len(have) == 0 || have[0] != line {
			return fmt.Errorf("the page shows\n%s\nand it prints\n%s\nfirst difference at %q", shown, got, line)
		}
		skip, have = false, have[1:]
	}
	if len(have) > 0 && !skip {
		return fmt.Errorf("the page shows\n%s\nand it prints\n%s\nand more: %q", shown, got, have[0])
	}
	return nil
}
