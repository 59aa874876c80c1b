package state

import (
	"strings"
	"testing"
	"time"
)

// TestCertificateProblem: an operator reads of an expiry a month ahead, or in the last
// third of a shorter validity, and of what is not valid now.
func TestCertificateProblem(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name         string
		since, until time.Duration // from now
		authority    bool
		want         string
	}{
		{"of a year", -day, 364 * day, false, ""},
		{"a month and an hour", -300 * day, 30*day + time.Hour, false, ""},
		{"a month", -300 * day, 30*day - time.Hour, false, "expires in 29 days, on 2026-12-29 23:00 UTC: put a new one in its place"},
		{"tomorrow", -300 * day, 25 * time.Hour, false, "expires in 25 hours"},
		{"of a week, new", -day, 6 * day, false, ""},
		{"of a week, in its last third", -5 * day, 2 * day, false, "expires in 2 days"},
		{"ended", -300 * day, -time.Second, false, "has expired on 2026-11-29 23:59 UTC"},
		{"an authority", -300 * day, day, true, "make a new authority"},
		{"not yet", time.Hour, 300 * day, false, "is not valid before 2026-11-30 01:00 UTC: check this machine's clock"},
	} {
		cert := Certificate{Section: "api.admin.tls", File: "/etc/onlink/a.crt", Subject: "CN=a", Authority: c.authority, NotBefore: now.Add(c.since), NotAfter: now.Add(c.until)}
		got := cert.Problem(now)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if got != "" && !strings.HasPrefix(got, "api.admin.tls: the certificate CN=a in /etc/onlink/a.crt ") {
			t.Errorf("%s: %q does not name the file", c.name, got)
		}
	}
	s := Snapshot{Taken: now, Certificates: []Certificate{{Subject: "CN=gone", NotAfter: now.Add(-day)}, {Subject: "CN=good", NotAfter: now.Add(300 * day)}}}
	if p := s.Problems(); len(p) < 1 || !strings.Contains(strings.Join(p, "\n"), "CN=gone") || strings.Contains(strings.Join(p, "\n"), "CN=good") {
		t.Errorf("problems %q", p)
	}
}
