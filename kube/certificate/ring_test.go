package certificate

import (
	"bytes"
	"crypto/x509"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/internal/pki"
)

const life = 7 * 24 * time.Hour

// member is a node with a certificate, and what it trusts.
type member struct {
	cert  *x509.Certificate
	trust *x509.CertPool
}

func join(t *testing.T, r *Ring, now time.Time) member {
	t.Helper()
	text, err := r.Issue("n1", &Granted{Public: newKey(t).Public(), Addresses: []netip.Addr{v4}}, now, life)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pki.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	m := member{certs[0], x509.NewCertPool()}
	for _, c := range certs[1:] {
		m.trust.AddCert(c)
	}
	return m
}

// accepts reports whether a node accepts another's certificate.
func (m member) accepts(o member, now time.Time) error {
	_, err := o.cert.Verify(x509.VerifyOptions{Roots: m.trust, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// TestRotation: while the authority is replaced, nodes whose certificates are valid
// accept each other, however late each renews its own; and in the end the former one is
// gone. Every step survives the Secret.
func TestRotation(t *testing.T) {
	now := time.Now()
	ring, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	first := ring.Current.Cert
	const step = 12 * time.Hour
	var nodes []member
	var done []string
	rotate := false
	for at := now; at.Before(now.Add(6 * life)); at = at.Add(step) {
		rotate = rotate || at.Sub(now) == 2*step // once, by hand
		next, did, err := ring.Turn(at, life, rotate)
		if err != nil {
			t.Fatal(err)
		}
		if did != "" {
			done, rotate = append(done, did), false
		}
		data, err := next.Data()
		if err != nil {
			t.Fatal(err)
		}
		if ring, err = ParseRing(data); err != nil {
			t.Fatal(err)
		}
		// One node more at each step, which never renews. What the others are to each
		// other does not change.
		fresh := join(t, ring, at)
		nodes = append(slices.DeleteFunc(nodes, func(m member) bool { return !at.Before(m.cert.NotAfter) }), fresh)
		for _, m := range nodes {
			if err := errors.Join(m.accepts(fresh, at), fresh.accepts(m, at)); err != nil {
				t.Fatalf("%s after the start, after %q: %v", at.Sub(now), done, err)
			}
		}
	}
	if want := []string{"made the next authority", "the next authority signs", "removed the former authority"}; !slices.Equal(done, want) {
		t.Errorf("done %q, want %q", done, want)
	}
	if trust := ring.Trust(); ring.Current.Cert.Equal(first) || bytes.Contains(trust, pki.EncodeCertificates(first)) {
		t.Error("the former authority is still there")
	}
}

// TestRotationMoments: no step comes before what it would part from the others has ended,
// on a clock that is slow by [pki.Backdate] too; and a second wish begins nothing.
func TestRotationMoments(t *testing.T) {
	now := time.Now().Truncate(time.Second) // as certificates have it
	ring, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	turn := func(at time.Time, want string) {
		t.Helper()
		next, did, err := ring.Turn(at, life, true)
		if err != nil || did != want {
			t.Fatalf("%s after the start: %q, %v; want %q", at.Sub(now), did, err, want)
		}
		ring = next
	}
	ended := func(m member, at time.Time) {
		t.Helper()
		if end := m.cert.NotAfter.Add(pki.Backdate); end.After(at) {
			t.Errorf("%s after the start: a certificate is valid for %s more", at.Sub(now), end.Sub(at))
		}
	}
	knowsOne := join(t, ring, now)
	turn(now, "made the next authority")
	signs := now.Add(life + pki.Backdate)
	turn(signs.Add(-time.Second), "")
	signedByOne := join(t, ring, signs.Add(-time.Second))
	ended(knowsOne, signs)
	turn(signs, "the next authority signs")
	removed := signs.Add(life + pki.Backdate)
	turn(removed.Add(-time.Second), "")
	ended(signedByOne, removed)
	turn(removed, "removed the former authority")
	turn(removed, "made the next authority")
}

// TestRotationDue: without a hand the successor comes in the last quarter.
func TestRotationDue(t *testing.T) {
	now := time.Now()
	ring, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Duration
		want string
	}{{authorityLife*3/4 - time.Hour, ""}, {authorityLife*3/4 + time.Hour, "made the next authority"}} {
		if _, did, err := ring.Turn(now.Add(c.at), life, false); err != nil || did != c.want {
			t.Errorf("after %s: %q, %v; want %q", c.at, did, err, c.want)
		}
	}
	// A certificate never outlives what signed it.
	late := now.Add(authorityLife - time.Hour)
	if m := join(t, ring, late); !m.cert.NotAfter.Equal(ring.Current.Cert.NotAfter) {
		t.Errorf("ends at %s, the authority at %s", m.cert.NotAfter, ring.Current.Cert.NotAfter)
	}
}

// TestBrokenRing: what is in the Secret and cannot be read is named, and never taken for
// an absent one.
func TestBrokenRing(t *testing.T) {
	now := time.Now()
	ring, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	ring.Next, ring.Former, ring.Until = other.Current, other.Current.Cert, now
	good, err := ring.Data()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ key, value, want string }{
		{currentCert, "", "ca.crt: no certificate"},
		{currentKey, "", "ca.key: no private key"},
		{currentKey, string(good[nextKey]), "ca.key is not the key of ca.crt"},
		{nextKey, "", "next.key: no private key"},
		{nextCert, "x", "next.crt: no certificate"},
		{formerCert, "x", "former.crt: no certificate"},
		{formerUntil, "tomorrow", "former.until: "},
	} {
		data := maps.Clone(good)
		data[c.key] = []byte(c.value)
		if r, err := ParseRing(data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v, %v; want %q", c.key, c.value, r, err, c.want)
		}
	}
	if _, err := ParseRing(nil); err == nil {
		t.Error("an empty Secret is an authority")
	}
}
