package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMakeFigure checks medians, ratios and goals.
func TestMakeFigure(t *testing.T) {
	for name, tc := range map[string]struct {
		figure string
		ours   samples
		peer   versus
		ratio  *float64
		goal   string
		met    *bool
	}{
		"met":              {"fib.withdraw_100k", samples{3, 1, 2}, versus{samples: samples{4, 4, 4}}, new(0.5), "<= 1", new(true)},
		"missed":           {"fib.withdraw_100k", samples{6}, versus{samples: samples{4}}, new(1.5), "<= 1", new(false)},
		"more is better":   {"ipam.assign_c32", samples{100}, versus{samples: samples{10}}, new(10.0), ">= 15", new(false)},
		"of the value":     {"agent.idle_rss", samples{30}, versus{}, nil, "<= 40 u", new(true)},
		"none is allowed":  {"fib.churn_60s", samples{0}, versus{}, nil, "<= 0 u", new(true)},
		"peer did not run": {"fib.withdraw_100k", samples{1}, versus{why: "no bird"}, nil, "<= 1", new(false)},
		"not measured":     {"agent.idle_rss", nil, versus{}, nil, "<= 40 u", new(false)},
		"for information":  {"fib.single_worst", samples{1, 3}, versus{samples: samples{4}}, new(0.5), "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := makeFigure(tc.figure, "u", tc.ours, tc.peer)
			got := []any{f.Ratio, f.Goal, f.Met}
			if d := cmp.Diff([]any{tc.ratio, tc.goal, tc.met}, got); d != "" {
				t.Error(d)
			}
			if f.Ratio == nil && f.Why == "" {
				t.Error("no ratio and no reason")
			}
		})
	}
}

// TestPercentile checks the ends.
func TestPercentile(t *testing.T) {
	s := samples{5, 1, 4, 2, 3}
	for p, want := range map[float64]float64{0: 1, 50: 3, 99: 5, 100: 5} {
		if got := s.percentile(p); got != want {
			t.Errorf("percentile %v = %v, want %v", p, got, want)
		}
	}
}

// TestOutput writes and reads the JSON, and prints the table.
func TestOutput(t *testing.T) {
	figures := []Figure{
		makeFigure("fib.withdraw_100k", "s", samples{1}, versus{name: "BIRD 2", samples: samples{2}}),
		makeFigure("agent.idle_rss", "MB", nil, versus{why: "the agent did not start"}),
	}
	path := filepath.Join(t.TempDir(), "build", "bench.json")
	if err := writeJSON(path, figures); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back []Figure
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(figures, back); d != "" {
		t.Error(d)
	}
	for _, key := range []string{`"name"`, `"value"`, `"unit"`, `"peer"`, `"peer_value"`, `"ratio"`, `"goal"`, `"met"`, `"why"`} {
		if !bytes.Contains(text, []byte(key)) {
			t.Errorf("no key %s", key)
		}
	}
	var table bytes.Buffer
	if err := writeTable(&table, figures); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fib.withdraw_100k", "the agent did not start", "yes"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, &table)
		}
	}
}

// TestSelect checks that prefixes choose groups, and that every goal belongs
// to a figure that some group reports.
func TestSelect(t *testing.T) {
	for prefix, want := range map[string]int{"": len(groups()), "fib.": 6, "cni.add_c8": 1, "nothing": 0} {
		if got := selectGroups(strings.Fields(prefix)); len(got) != want {
			t.Errorf("%q selects %d groups, want %d", prefix, len(got), want)
		}
	}
	for name := range goals {
		if len(selectGroups([]string{name})) != 1 {
			t.Errorf("goal %s belongs to no group", name)
		}
	}
}

// TestBlocks checks that blocks are numbered both ways.
func TestBlocks(t *testing.T) {
	for _, i := range []int{0, 1, 3, 1000, 199_999} {
		p := block(i)
		if !fedNet.Overlaps(p) || blockIndex(p) != i {
			t.Errorf("block %d is %s, number %d", i, p, blockIndex(p))
		}
	}
}
