package metrics

import (
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"onlink/agent/drain"
	"onlink/agent/hold"
	"onlink/agent/state"
	"onlink/internal/metric"
)

// nodeMetrics are the metrics of the node as a whole.
type nodeMetrics struct {
	inSync, drained, feature, announcements, rejected, withheld, expiry, start *prometheus.Desc
	build, problems, reloadOK, reloadAt, reloads                               *prometheus.Desc
	held, heldSince, heldEver                                                  *prometheus.Desc
}

func newNodeMetrics(c *catalogue) nodeMetrics {
	return nodeMetrics{
		inSync:  c.gauge("in_sync", "1 when the routes of a previous run were swept."),
		drained: c.gauge("drained", "1 when the node's prefixes are withdrawn by onlinkctl drain, or about to be."),
		feature: c.gauge("feature_available", "1 when the kernel supports the feature.", among("feature", "those that onlinkctl status lists")),

		build:    c.gauge("build_info", "1; the labels say which build the process is.", append(slices.Clone(metric.Build), among("engine", "one: the BGP engine and whether it is patched"))...),
		problems: c.gauge("problems", "Problems that onlinkctl status lists, by what they concern.", among("area", strings.Join(state.Areas(), ", "))),
		reloadOK: c.gauge("config_last_reload_successful", "1 when the newest configuration file is in force, 0 when it was rejected and the last good one stays."),
		reloadAt: c.gauge("config_last_reload_success_timestamp_seconds", "Since when the configuration is in force, in Unix time."),
		reloads:  c.counter("config_reloads_total", "Configurations that were read or changed since the start.", among("result", "applied, rejected")),

		held:      c.gauge("held_changes", "Changes that were not made because of what they would remove, until they are confirmed (onlinkctl config confirm)."),
		heldSince: c.gauge("held_change_since_timestamp_seconds", "Since when the oldest held change waits, in Unix time; absent while none is held. Its age is time() minus this."),
		heldEver:  c.counter("changes_held_total", "Changes that were held. One that comes again while it is held counts once."),

		expiry: c.gauge("tls_certificate_expiry_timestamp_seconds", "When a certificate of a TLS endpoint ends, in Unix time; kind is certificate or authority.", among("section", "api.admin.tls, ipam.registry.tls"), among("kind", "certificate, authority"), among("subject", "names of certificates, the first 100")),
		start:  c.gauge("tls_certificate_start_timestamp_seconds", "When the validity of that certificate begins, in Unix time.", among("section", "api.admin.tls, ipam.registry.tls"), among("kind", "certificate, authority"), among("subject", "names of certificates, the first 100")),

		announcements: c.gauge("announcements", "Prefixes that the node announces for an owner, such as services.", ownerLabel),
		rejected:      c.gauge("announcements_rejected", "Announcements of an owner that are left out, see onlinkctl announcements.", ownerLabel),
		withheld:      c.gauge("announcements_withheld", "Announcements of an owner that wait, after a boot of the machine, until it sends them again.", ownerLabel),
	}
}

func (m *nodeMetrics) collect(s *state.Snapshot, out sink) {
	out.gauge(m.build, 1, s.Node.Version, runtime.Version(), s.Node.Engine)
	for area, lines := range s.ProblemsByArea() {
		out.gauge(m.problems, float64(len(lines)), area)
	}
	out.gauge(m.held, float64(len(s.Held)))
	out.counter(m.heldEver, float64(s.HeldEver))
	if len(s.Held) > 0 {
		oldest := slices.MinFunc(s.Held, func(a, b hold.Change) int { return a.Since.Compare(b.Since) })
		out.gauge(m.heldSince, float64(oldest.Since.Unix()))
	}
	out.gauge(m.reloadOK, one(s.Reloads.InForce))
	out.gauge(m.reloadAt, float64(s.Reloads.At.Unix()))
	out.counter(m.reloads, float64(s.Reloads.Applied), "applied")
	out.counter(m.reloads, float64(s.Reloads.Rejected), "rejected")
	out.gauge(m.inSync, one(s.Routes.InSync))
	out.gauge(m.drained, one(s.Drain != drain.Serving))
	for i := range s.Announcements[:min(len(s.Announcements), maxListSeries)] {
		set := &s.Announcements[i]
		out.gauge(m.announcements, float64(len(set.Announcements)), set.Owner)
		out.gauge(m.rejected, float64(len(set.Rejected)), set.Owner)
		out.gauge(m.withheld, float64(len(set.Withheld)), set.Owner)
	}
	for key, c := range expiries(s.Certificates) {
		out.gauge(m.expiry, float64(c.NotAfter.Unix()), key[:]...)
		out.gauge(m.start, float64(c.NotBefore.Unix()), key[:]...)
	}
	for _, f := range s.Features {
		out.gauge(m.feature, one(f.Available), f.Name)
	}
}

// expiries returns the first that ends of the certificates with the same labels: a file of
// authorities may have two of one name.
func expiries(list []state.Certificate) map[[3]string]*state.Certificate {
	out := map[[3]string]*state.Certificate{}
	for i := range list {
		c := &list[i]
		key := [3]string{c.Section, "certificate", c.Subject}
		if c.Authority {
			key[1] = "authority"
		}
		first, has := out[key]
		if !has && len(out) >= maxListSeries {
			continue // the node's own ones come first
		}
		if !has || c.NotAfter.Before(first.NotAfter) {
			out[key] = c
		}
	}
	return out
}
