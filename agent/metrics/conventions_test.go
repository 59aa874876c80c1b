package metrics

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"onlink/agent/announce"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/internal/metric"
	"onlink/ipam"
)

// scrape returns the metrics as Prometheus reads them.
func scrape(t *testing.T, s *state.Snapshot) map[string]*dto.MetricFamily {
	t.Helper()
	code, body := get(t, fixed{s: s}, "/metrics")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestConventions: every metric follows Prometheus's conventions, and is in the list
// that the reference is made of, with its type, meaning and labels; every metric of the
// list can be scraped.
func TestConventions(t *testing.T) {
	listed := map[string]metric.Family{}
	for _, f := range Families() {
		if f.Help == "" || !strings.HasSuffix(f.Help, ".") {
			t.Errorf("%s: its meaning %q is no sentence", f.Name, f.Help)
		}
		for _, l := range f.Labels {
			if l.Values == "" {
				t.Errorf("%s: label %s has no bound", f.Name, l.Name)
			}
		}
		listed[f.Name] = f
	}
	for name, got := range scrape(t, full()) {
		if !strings.HasPrefix(name, "onlink_") {
			continue // of the Go runtime and the process
		}
		f, has := listed[name]
		if !has {
			t.Errorf("%s is not in Families", name)
			continue
		}
		delete(listed, name)
		if kind := strings.ToLower(got.GetType().String()); kind != string(f.Kind) || got.GetHelp() != f.Help {
			t.Errorf("%s is a %s %q, want a %s %q", name, kind, got.GetHelp(), f.Kind, f.Help)
		}
		want := slices.Sorted(slices.Values(f.LabelNames()))
		for _, m := range got.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
			if slices.Sort(labels); !slices.Equal(labels, want) {
				t.Errorf("%s has the labels %v, want %v", name, labels, want)
			}
		}
	}
	for name := range maps.Keys(listed) {
		t.Errorf("%s is in Families, and a full snapshot does not show it", name)
	}
}

// TestBounds: the number of series does not grow with the clients, pools, owners of
// announcements and authorities.
func TestBounds(t *testing.T) {
	const many = 3 * maxPeerSeries
	s := full()
	for i := range many {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		s.Sessions.Peers = append(s.Sessions.Peers, state.Peer{PeerStatus: bgp.PeerStatus{Name: addr.String(), Address: addr, Gone: i%2 == 0, Seen: true, Since: time.Unix(1, 0)}})
		s.IPAM.Pools = append(s.IPAM.Pools, ipam.PoolUsage{Pool: ipam.Pool{Name: fmt.Sprint("p", i)}})
		s.Announcements = append(s.Announcements, announce.Set{Owner: fmt.Sprint("o", i)})
		s.Certificates = append(s.Certificates, state.Certificate{Section: "api.admin.tls", Subject: fmt.Sprint("CN=", i), Authority: true})
	}
	for name, f := range scrape(t, s) {
		bound := maxPeerSeries
		if name == "onlink_bgp_peer_faults_total" {
			bound *= 6 // kinds
		}
		if n := len(f.GetMetric()); n > bound {
			t.Errorf("%s has %d series, want at most %d", name, n, bound)
		}
	}
	if _, body := get(t, fixed{s: s}, "/metrics"); !strings.Contains(body, "\nonlink_bgp_peers 151\n") || !strings.Contains(body, "\nonlink_bgp_peers_gone 151\n") {
		t.Error("the totals are not exact")
	}
}
