package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/identity"
)

// monitoring is the folder of the dashboard and the rules.
const monitoring = "../deploy/monitoring"

// TestMonitoring: the metrics of running agents follow Prometheus's conventions, and a
// Prometheus that scrapes them answers each query of the dashboard with figures.
func TestMonitoring(t *testing.T) {
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Skip("needs prometheus: apt-get install prometheus")
	}
	spec := labtest.InRack("monitoring")
	spec.Pool.Tunnel = "vxlan" // on every kernel; the device is there in one rack, too
	ctx, l := labtest.Build(t, spec)
	ca := labtest.NewAuthority(t)
	for _, n := range l.Nodes() {
		tls := ca.Issue(t, identity.Node, n.Name, n.Addr)
		n.Edit = func(c *conf.Config) {
			c.API.Metrics = "0.0.0.0:9179"
			c.API.Admin.TCP, c.API.Admin.TLS = net.JoinHostPort(n.Addr.String(), "9443"), tls
			c.IPAM.Registry.Assert = "1s"
		}
	}
	labtest.StartAll(ctx, t, l)
	p := startPrometheus(t, l)
	must(t, p.wants(ctx, fmt.Sprintf(`sum(up{job="onlink"}) == %d`, len(l.Nodes()))))
	busy(ctx, t, l)
	for _, n := range l.Nodes() {
		lint(ctx, t, n)
	}
	for _, panel := range panels(t) {
		for _, target := range panel.Targets {
			query := strings.NewReplacer("$node", ".*", "$__rate_interval", "1m").Replace(target.Expr)
			if err := p.wants(ctx, query); err != nil {
				t.Errorf("panel %q: %v", panel.Title, err)
			}
		}
	}
	must(t, p.wants(ctx, "count(onlink_convergence_seconds_count > 0) > 1")) // routes came
	must(t, p.wants(ctx, `max(scrape_samples_scraped{job="onlink"}) < 1000`))
	must(t, p.wants(ctx, "sum(prometheus_rule_evaluation_failures_total) == 0"))
	must(t, p.nothingBroken(ctx))
}

// lint checks a node's metrics.
func lint(ctx context.Context, t *testing.T, n *lab.Node) {
	t.Helper()
	body, err := labtest.Metrics(ctx, n)
	must(t, err)
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s: %s", n.Name, p.Metric, p.Text)
	}
}

// busy gives what is counted something to count, after the first scrape.
func busy(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	for i, n := range l.Workers() {
		pod, err := n.AddPod(ctx, fmt.Sprintf("busy-%d", i))
		must(t, err)
		must(t, pod.Delete(ctx))
		_, err = n.AddPod(ctx, fmt.Sprintf("stays-%d", i))
		must(t, err)
	}
}

// panel is one of the dashboard.
type panel struct {
	Title   string
	Targets []struct{ Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, "dashboard.json"))
	must(t, err)
	var board struct{ Panels []panel }
	must(t, json.Unmarshal(text, &board))
	if len(board.Panels) < 10 {
		t.Fatalf("%d panels", len(board.Panels))
	}
	return board.Panels
}

// prometheus is one that scrapes a lab, at a host outside the racks.
type prometheus struct{ client *http.Client }

// startPrometheus runs Debian's Prometheus with the alert rules, until the lab ends.
func startPrometheus(t *testing.T, l *lab.Lab) *prometheus {
	t.Helper()
	host, err := l.AddHost("prometheus", 212)
	must(t, err)
	rules, err := filepath.Abs(filepath.Join(monitoring, "rules.yaml"))
	must(t, err)
	var targets []string
	for _, n := range l.Nodes() {
		targets = append(targets, strconv.Quote(net.JoinHostPort(n.Addr.String(), "9179")))
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - {job_name: onlink, static_configs: [{targets: [%s]}]}
  - {job_name: prometheus, static_configs: [{targets: ["127.0.0.1:9090"]}]}
`, rules, strings.Join(targets, ", ")), 0o600))
	log := filepath.Join(dir, "prometheus.log")
	_, err = host.NS.Start("prometheus", log, "prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:9090", "--log.level=warn")
	must(t, err)
	t.Cleanup(func() {
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("log of prometheus:\n%s", text)
		}
	})
	return &prometheus{client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: host.NS.Dial}}}
}

// get reads a path of the API into v.
func (p *prometheus) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9090/api/v1/"+path, http.NoBody)
	if err != nil {
		return err
	}
	reply, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		return err
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", reply.Status, body)
	}
	return json.Unmarshal(body, v)
}

// wants waits until a query has a figure.
func (p *prometheus) wants(ctx context.Context, query string) error {
	return lab.Eventually(ctx, labtest.Patience, query, func() error {
		var reply struct {
			Data struct {
				Result []struct{ Value [2]any }
			}
		}
		if err := p.get(ctx, "query?query="+url.QueryEscape(query), &reply); err != nil {
			return err
		}
		for _, r := range reply.Data.Result {
			text, _ := r.Value[1].(string)
			if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) {
				return nil
			}
		}
		return fmt.Errorf("no figure in %d series", len(reply.Data.Result))
	})
}

// nothingBroken returns an error when an alert of a fault is active in a lab that has
// none.
func (p *prometheus) nothingBroken(ctx context.Context) error {
	return lab.Eventually(ctx, labtest.Patience, "no alert", func() error {
		var reply struct {
			Data struct {
				Alerts []struct {
					Labels map[string]string
					State  string
				}
			}
		}
		if err := p.get(ctx, "alerts", &reply); err != nil {
			return err
		}
		for _, a := range reply.Data.Alerts {
			if a.Labels["alertname"] == "OnlinkCertificateExpires" || a.Labels["alertname"] == "OnlinkProblems" {
				continue // the certificates of this test are for a day, and an insecure registry is a problem
			}
			return fmt.Errorf("%v is %s", a.Labels, a.State)
		}
		return nil
	})
}
