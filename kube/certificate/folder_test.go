package certificate

import (
	"crypto/ecdsa"
	"crypto/tls"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"onlink/internal/pki"
	"onlink/internal/tlsfiles"
)

// TestFolder: an agent can start with the stand-in, which nobody accepts; then it reads
// the node's certificate without a restart.
func TestFolder(t *testing.T) {
	now, dir := time.Now(), t.TempDir()
	f := Folder(dir)
	if err := f.Begin("n1", now); err != nil {
		t.Fatal(err)
	}
	files := tlsfiles.Files{Cert: filepath.Join(dir, pairFile), Key: filepath.Join(dir, pairFile), CA: filepath.Join(dir, trustFile)}
	keeper, err := files.Open()
	if err != nil {
		t.Fatalf("an agent cannot start: %v", err)
	}
	if c, err := f.Current("n1", now); c != nil || err != nil {
		t.Errorf("the stand-in is a certificate: %v, %v", c, err)
	}
	stand, err := os.ReadFile(files.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Begin("n1", now); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(files.Cert); err != nil || string(again) != string(stand) {
		t.Errorf("the stand-in changed: %v", err)
	}

	ring, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := f.RequestKey()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ring.Issue("n1", &Granted{Public: key.Public(), Addresses: []netip.Addr{v4, v6}}, now, life)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Install(key, answer, "n1", []netip.Addr{v6, v4}, now); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{pairFile: 0o600, trustFile: 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err == nil {
		t.Error("the key of the request stays beside the certificate")
	}
	c, err := f.Current("n1", now)
	if err != nil || c == nil || !Fits(c, "n1", []netip.Addr{v4, v6}) {
		t.Fatalf("%v, %v", c, err)
	}
	for name, addresses := range map[string][]netip.Addr{"n1": {v4}, "n2": {v4, v6}} {
		if Fits(c, name, addresses) {
			t.Errorf("it fits %s at %v", name, addresses)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for keeper.Certificates()[0].SerialNumber.Cmp(c.SerialNumber) != 0 {
		if time.Now().After(deadline) {
			t.Fatalf("the agent does not read the new files: %s", keeper.Problem())
		}
		time.Sleep(10 * time.Millisecond)
	}
	// What the stand-in's files accept nobody has.
	if _, err := tls.X509KeyPair(stand, stand); err != nil {
		t.Error(err)
	}

	// Expired: the agent must be able to take a new configuration.
	if c, err := f.Current("n1", now.Add(life)); c != nil || err != nil {
		t.Errorf("after its end: %v, %v", c, err)
	}
	if certs, err := pki.ReadCertificates(files.Cert); err != nil || certs[0].NotAfter.Before(now.Add(2*life)) {
		t.Errorf("an expired certificate stays: %v", err)
	}
}

// TestInstallRefuses: an answer that is not what was asked for changes no file.
func TestInstallRefuses(t *testing.T) {
	now := time.Now()
	f := Folder(t.TempDir())
	ring, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := f.RequestKey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.RequestKey(); err != nil || !key.Public().(*ecdsa.PublicKey).Equal(again.Public()) {
		t.Fatalf("a process that begins anew has another key: %v", err)
	}
	issue := func(r *Ring, node string, at netip.Addr) []byte {
		text, err := r.Issue(node, &Granted{Public: key.Public(), Addresses: []netip.Addr{at}}, now, life)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	leaf := func(text []byte) []byte {
		certs, err := pki.ParseCertificates(text)
		if err != nil {
			t.Fatal(err)
		}
		return pki.EncodeCertificates(certs[0])
	}
	for _, c := range []struct {
		name   string
		answer []byte
		other  bool
		at     time.Time
		want   string
	}{
		{"no certificate", []byte("x"), false, now, "no certificate in PEM form"},
		{"for another key", issue(ring, "n1", v4), true, now, "for another key"},
		{"another's name", issue(ring, "n2", v4), false, now, "not for node n1"},
		{"another address", issue(ring, "n1", v6), false, now, "not for node n1"},
		{"no authority", leaf(issue(ring, "n1", v4)), false, now, "signed by unknown authority"},
		{"another authority", append(leaf(issue(ring, "n1", v4)), stranger.Trust()...), false, now, "signed by unknown authority"},
		{"this machine's clock is late", issue(ring, "n1", v4), false, now.Add(-time.Hour), "not yet valid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := key
			if c.other {
				k = newKey(t)
			}
			if err := f.Install(k, c.answer, "n1", []netip.Addr{v4}, c.at); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if _, err := os.Stat(filepath.Join(string(f), pairFile)); err == nil {
				t.Error("it was written")
			}
		})
	}
}

// TestRenewal: a certificate is renewed around the half of its life, before an agent
// warns of its end in the last third, and not by all nodes at once.
func TestRenewal(t *testing.T) {
	now := time.Now()
	ring, err := NewRing(now)
	if err != nil {
		t.Fatal(err)
	}
	c := join(t, ring, now).cert
	seen := map[time.Time]bool{}
	for serial := range int64(1000) {
		c.SerialNumber = big.NewInt(serial * 7919)
		at := Renewal(c)
		if at.Before(now.Add(life*44/100)) || at.After(now.Add(life*56/100)) || c.NotAfter.Sub(at) < c.NotAfter.Sub(c.NotBefore)/3 {
			t.Fatalf("renewed %s after its making", at.Sub(now))
		}
		seen[at] = true
	}
	if len(seen) < 900 {
		t.Errorf("1000 certificates are renewed at %d times", len(seen))
	}
}
