package monitoring

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"onlink/agent/metrics"
	"onlink/internal/metric"
	"onlink/kube/controller"
	"onlink/kube/node"
)

var update = flag.Bool("update", false, "write docs/reference/metrics.md")

const referenceFile = "../../docs/reference/metrics.md"

// program is a process that has metrics.
type program struct {
	name, address string
	families      []metric.Family
}

// programs are all of onlink's.
func programs() []program {
	return []program{
		{"onlinkd", "`api.metrics`, 127.0.0.1:9179", metrics.Families()},
		{"onlink-kube node", "`--health`, 127.0.0.1:9178", node.Metrics()},
		{"onlink-kube controller", "`--health`, 127.0.0.1:9180", controller.Metrics()},
	}
}

// TestReference: docs/reference/metrics.md is made of the metrics as they are defined.
func TestReference(t *testing.T) {
	want := reference()
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not current, run make generate-metrics", referenceFile)
	}
}

// reference returns the page.
func reference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

Made by ` + "`make generate-metrics`" + ` from the definitions in the programs; edit those.
[monitoring.md](../monitoring.md) says how to scrape them, and has the dashboard and the
alerts.

A label is followed by what bounds its values. A counter begins at 0 with the process. A
histogram has the series ` + "`_bucket{le}`, `_sum` and `_count`" + `; the bounds of its buckets are
fixed. Besides these every program has the metrics of the Go runtime (` + "`go_`" + `) and of the
process (` + "`process_`" + `).
`)
	for _, p := range programs() {
		fmt.Fprintf(&b, "\n## %s\n\nServed at %s.\n\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n", p.name, p.address)
		for i := range p.families {
			f := &p.families[i]
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Name, f.Kind, f.Unit(), labels(f), f.Help)
		}
	}
	return b.String()
}

func labels(f *metric.Family) string {
	var out []string
	for _, l := range f.Labels {
		out = append(out, fmt.Sprintf("`%s`: %s", l.Name, l.Values))
	}
	return strings.Join(out, "; ")
}
