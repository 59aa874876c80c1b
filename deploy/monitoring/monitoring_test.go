// Package monitoring has no code: its tests hold the dashboard, the alert rules and the
// reference of the metrics together with the programs that serve them.
package monitoring

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"onlink/internal/metric"
)

const pageFile = "../../docs/troubleshooting.md"

// rule is an alert.
type rule struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

// rules reads the alerts.
func rules(t *testing.T) (out []rule) {
	t.Helper()
	text, err := os.ReadFile("rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		out = append(out, g.Rules...)
	}
	if len(out) == 0 {
		t.Fatal("no rules")
	}
	return out
}

// expressions reads the queries of the dashboard, by the panel's title.
func expressions(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title, Description, Type string
			Targets                  []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, p := range board.Panels {
		if p.Type != "row" && (p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %q has no description, or no query", p.Title)
		}
		for _, target := range p.Targets {
			out[p.Title] = append(out[p.Title], target.Expr)
		}
	}
	return out
}

// TestExpressions: the queries of the dashboard and the alerts name only metrics that
// the programs have, and only labels of theirs.
func TestExpressions(t *testing.T) {
	known := map[string]metric.Family{}
	for _, p := range programs() {
		for _, f := range p.families {
			known[f.Name] = f
		}
	}
	seen := map[string]bool{}
	check := func(t *testing.T, expr string) {
		t.Helper()
		sel, err := selectors(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
		}
		if len(sel) == 0 {
			t.Errorf("%s names no metric", expr)
		}
		for _, s := range sel {
			f, has := find(known, s.metric)
			if !has {
				t.Errorf("%s: there is no metric %s", expr, s.metric)
				continue
			}
			seen[f.Name] = true
			for _, l := range s.labels {
				if !slices.Contains(append(f.LabelNames(), "instance", "job"), l) {
					t.Errorf("%s: %s has no label %s", expr, s.metric, l)
				}
			}
		}
	}
	for title, list := range expressions(t) {
		t.Run(title, func(t *testing.T) {
			for _, e := range list {
				check(t, e)
			}
		})
	}
	for _, r := range rules(t) {
		t.Run(r.Alert, func(t *testing.T) { check(t, r.Expr) })
	}
	if len(seen) < 30 {
		t.Errorf("only %d metrics are used", len(seen))
	}
}

// find returns the metric that a series belongs to.
func find(known map[string]metric.Family, series string) (metric.Family, bool) {
	// Of Prometheus, and of every program's client library.
	if slices.Contains([]string{"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}, series) {
		return metric.Family{Name: series}, true
	}
	if f, has := known[series]; has {
		return f, f.Kind != metric.Histogram
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if name, cut := strings.CutSuffix(series, suffix); cut && known[name].Kind == metric.Histogram {
			return known[name], true
		}
	}
	return metric.Family{}, false
}

// TestSelectors: names in strings, labels and functions are no metrics, and a renamed
// metric is found.
func TestSelectors(t *testing.T) {
	for _, tt := range []struct{ expr, want string }{
		{`up == 0`, "up[]"},
		{`sum by (a, b) (rate(x_total{c="d{e}", f=~"g|h"}[5m])) > 1e3`, "x_total[c f]"},
		{`time() - x_seconds{i!~"$node"} > 14 * 86400`, "x_seconds[i]"},
		{`a and on (l) b unless ignoring (m) c`, "a[] b[] c[]"},
		{`histogram_quantile(0.99, sum without (n) (rate(h_bucket[$__rate_interval] offset 5m)))`, "h_bucket[]"},
		{`"unclosed`, "error"},
		{`x{a="b"`, "error"},
	} {
		got := []string{}
		sel, err := selectors(tt.expr)
		for _, s := range sel {
			got = append(got, s.metric+"["+strings.Join(s.labels, " ")+"]")
		}
		if text := strings.Join(got, " "); (err != nil) != (tt.want == "error") || err == nil && text != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.expr, text, err, tt.want)
		}
	}
	if _, has := find(map[string]metric.Family{"h": {Name: "h", Kind: metric.Histogram}}, "h"); has {
		t.Error("a histogram has no series of its own name")
	}
}

// TestRunbooks: every alert has a severity, a summary, and a section of its own in
// docs/troubleshooting.md; every section of an alert belongs to one.
func TestRunbooks(t *testing.T) {
	text, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	_, alerts, found := strings.Cut(string(text), "\n# Alerts\n")
	if !found {
		t.Fatalf("%s has no heading Alerts", pageFile)
	}
	for _, part := range strings.Split(alerts, "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		sections[strings.ToLower(title)] = len(strings.Fields(body)) > 15
	}
	for _, r := range rules(t) {
		anchor, cut := strings.CutPrefix(r.Annotations["runbook_url"], "docs/troubleshooting.md#")
		if !cut || anchor != strings.ToLower(r.Alert) {
			t.Errorf("%s: runbook_url is %q", r.Alert, r.Annotations["runbook_url"])
		}
		if !sections[anchor] {
			t.Errorf("%s: %s has no section %q that says what to do", r.Alert, pageFile, r.Alert)
		}
		delete(sections, anchor)
		if r.Annotations["summary"] == "" || !slices.Contains([]string{"info", "warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q, summary %q", r.Alert, r.Labels["severity"], r.Annotations["summary"])
		}
	}
	for title := range sections {
		t.Errorf("section %q belongs to no alert", title)
	}
}

// TestRules runs the unit tests of the alerts, and requires one for each.
func TestRules(t *testing.T) {
	text, err := os.ReadFile("rules_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			Cases []struct {
				Alert  string `yaml:"alertname"`
				Alerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, one := range file.Tests {
		for _, c := range one.Cases {
			fires[c.Alert] = fires[c.Alert] || len(c.Alerts) > 0
			silent[c.Alert] = silent[c.Alert] || len(c.Alerts) == 0
		}
	}
	for _, r := range rules(t) {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: rules_test.yaml tries it firing: %t, and silent: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
	promtool, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs promtool: apt-get install prometheus")
	}
	out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", "rules_test.yaml").CombinedOutput()
	if err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}
