package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/drain"
	"onlink/agent/state"
)

// nodeMetrics are the metrics of the node as a whole.
type nodeMetrics struct {
	inSync, drained, feature, announcements, rejected, withheld, expiry *prometheus.Desc
}

func newNodeMetrics() nodeMetrics {
	return nodeMetrics{
		inSync:  describe("in_sync", "1 when the routes of a previous run were swept."),
		drained: describe("drained", "1 when the node's prefixes are withdrawn by onlinkctl drain, or about to be."),
		feature: describe("feature_available", "1 when the kernel supports the feature.", "feature"),

		expiry: describe("tls_certificate_expiry_timestamp_seconds", "When a certificate of a TLS endpoint ends, in Unix time; kind is certificate or authority.", "section", "kind", "subject"),

		announcements: describe("announcements", "Prefixes that the node announces for an owner, such as services.", "owner"),
		rejected:      describe("announcements_rejected", "Announcements of an owner that are left out, see onlinkctl announcements.", "owner"),
		withheld:      describe("announcements_withheld", "Announcements of an owner that wait, after a boot of the machine, until it sends them again.", "owner"),
	}
}

func (m *nodeMetrics) collect(s *state.Snapshot, out sink) {
	out.gauge(m.inSync, one(s.Routes.InSync))
	out.gauge(m.drained, one(s.Drain != drain.Serving))
	for i := range s.Announcements {
		set := &s.Announcements[i]
		out.gauge(m.announcements, float64(len(set.Announcements)), set.Owner)
		out.gauge(m.rejected, float64(len(set.Rejected)), set.Owner)
		out.gauge(m.withheld, float64(len(set.Withheld)), set.Owner)
	}
	for key, end := range expiries(s.Certificates) {
		out.gauge(m.expiry, float64(end.Unix()), key[:]...)
	}
	for _, f := range s.Features {
		out.gauge(m.feature, one(f.Available), f.Name)
	}
}

// expiries returns the first end of the certificates with the same labels: a file of
// authorities may have two of one name.
func expiries(list []state.Certificate) map[[3]string]time.Time {
	out := map[[3]string]time.Time{}
	for i := range list {
		c := &list[i]
		key := [3]string{c.Section, "certificate", c.Subject}
		if c.Authority {
			key[1] = "authority"
		}
		if end, has := out[key]; !has || c.NotAfter.Before(end) {
			out[key] = c.NotAfter
		}
	}
	return out
}
