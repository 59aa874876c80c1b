package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/internal/identity"
)

var now = time.Now()

func authority(t *testing.T, a Algorithm) *Authority {
	t.Helper()
	ca, err := NewAuthority("test CA", now, now.Add(48*time.Hour), a)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// TestIssue: a certificate has the SANs of its request, chains to its authority, and
// serves for the uses that its names allow.
func TestIssue(t *testing.T) {
	node := identity.Identity{Role: identity.Node, Name: "r1n1"}
	for _, c := range []struct {
		name   string
		r      Request
		dns    []string
		server bool
	}{
		{"a node", Request{Identities: []identity.Identity{node}, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}, []string{"r1n1"}, true},
		{"a node with two names", Request{Identities: []identity.Identity{node, {Role: identity.Node, Name: "old"}}, DNS: []string{"r1n1"}}, []string{"r1n1", "old"}, true},
		{"a node that is no DNS name", Request{Identities: []identity.Identity{{Role: identity.Node, Name: "ünï"}}}, nil, false},
		{"an operator", Request{Identities: []identity.Identity{{Role: identity.Operator, Name: "alice"}}}, nil, false},
		{"an operator with a host", Request{Identities: []identity.Identity{{Role: identity.Operator, Name: "alice"}}, DNS: []string{"a.example.com"}}, []string{"a.example.com"}, true},
	} {
		for _, algorithm := range Algorithms() {
			t.Run(c.name+" "+string(algorithm), func(t *testing.T) {
				ca := authority(t, algorithm)
				r := c.r
				r.From, r.Until, r.Algorithm = now, now.Add(time.Hour), algorithm
				p, err := ca.Issue(r)
				if err != nil {
					t.Fatal(err)
				}
				ids, err := identity.Of(p.Cert)
				if err != nil || !slices.Equal(ids, r.Identities) {
					t.Errorf("identities %v, %v; want %v", ids, err, r.Identities)
				}
				if !slices.Equal(p.Cert.DNSNames, c.dns) || len(p.Cert.IPAddresses) != len(r.IPs) {
					t.Errorf("DNS %v, IP %v", p.Cert.DNSNames, p.Cert.IPAddresses)
				}
				roots := x509.NewCertPool()
				roots.AddCert(ca.Cert)
				verify := func(use x509.ExtKeyUsage) error {
					_, err := p.Cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
					return err
				}
				if err := verify(x509.ExtKeyUsageClientAuth); err != nil {
					t.Errorf("as a client: %v", err)
				}
				if err := verify(x509.ExtKeyUsageServerAuth); (err == nil) != c.server {
					t.Errorf("as a server: %v, want success %v", err, c.server)
				}
				// What it signs is nothing: it is no authority.
				if _, err := p.Cert.Verify(x509.VerifyOptions{Roots: x509.NewCertPool(), CurrentTime: now}); err == nil {
					t.Error("it is valid without its authority")
				}
			})
		}
	}
}

// TestSign: a certificate is for a key that the authority never has, and texts are read
// as files are.
func TestSign(t *testing.T) {
	ca := authority(t, P256)
	key, err := NewKey(P256)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(Request{Identities: []identity.Identity{{Role: identity.Node, Name: "r1n1"}}, From: now, Until: now.Add(time.Hour)}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text, err := EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	both := append(EncodeCertificates(cert, ca.Cert), text...)
	pair, err := ParsePair("one", both, "one", both)
	if err != nil || !pair.Cert.Equal(cert) {
		t.Errorf("%v, %v", pair.Cert, err)
	}
	if _, err := ParsePair("other", EncodeCertificates(ca.Cert), "one", text); err == nil || !strings.Contains(err.Error(), "one is not the key of other") {
		t.Errorf("the key of another certificate: %v", err)
	}
	if _, err := ParseAuthority("one", both, "one", both); err == nil || !strings.Contains(err.Error(), "is no authority's certificate") {
		t.Errorf("a node's certificate as an authority: %v", err)
	}
}

// TestIssueRefuses: an error says what to change.
func TestIssueRefuses(t *testing.T) {
	ca := authority(t, P256)
	ok := Request{Identities: []identity.Identity{{Role: identity.Viewer, Name: "v"}}, From: now, Until: now.Add(time.Hour), Algorithm: P256}
	for _, c := range []struct {
		name   string
		change func(*Request)
		want   string
	}{
		{"no identity", func(r *Request) { r.Identities = nil }, "needs a role"},
		{"bad role", func(r *Request) { r.Identities[0].Role = "root" }, "unknown role"},
		{"bad name", func(r *Request) { r.Identities[0].Name = "a/b" }, "a slash"},
		{"bad DNS", func(r *Request) { r.DNS = []string{"*.example.com"} }, "no DNS name"},
		{"empty label", func(r *Request) { r.DNS = []string{"a..b"} }, "no DNS name"},
		{"zone", func(r *Request) { r.IPs = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} }, "without a zone"},
		{"no address", func(r *Request) { r.IPs = []netip.Addr{{}} }, "no address"},
		{"ended", func(r *Request) { r.Until = now }, "no duration"},
		{"longer than the authority", func(r *Request) { r.Until = now.Add(49 * time.Hour) }, "ends on"},
		{"algorithm", func(r *Request) { r.Algorithm = "rsa" }, "unknown algorithm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ok
			r.Identities = slices.Clone(ok.Identities)
			c.change(&r)
			if _, err := ca.Issue(r); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for _, name := range []string{"", " "} {
		if _, err := NewAuthority(name, now, now.Add(time.Hour), P256); err == nil {
			t.Error("an authority without a name")
		}
	}
	if _, err := NewAuthority("x", now, now, P256); err == nil {
		t.Error("an authority without a duration")
	}
}

// TestFiles: a pair is read as it was written, a key is its owner's alone, and no
// file is replaced.
func TestFiles(t *testing.T) {
	for _, a := range Algorithms() {
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
		ca := authority(t, a)
		if err := ca.Write(cert, key); err != nil {
			t.Fatal(err)
		}
		for path, mode := range map[string]fs.FileMode{cert: 0o644, key: 0o600} {
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
			}
		}
		got, err := ReadAuthority(cert, key)
		if err != nil || !got.Cert.Equal(ca.Cert) {
			t.Fatalf("%v", err)
		}
		for _, gone := range []string{cert, key} { // the other one is there
			other := authority(t, a)
			kept, err := os.ReadFile(gone)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(gone); err != nil {
				t.Fatal(err)
			}
			if err := other.Write(cert, key); !errors.Is(err, fs.ErrExist) {
				t.Errorf("without %s: %v, want that the other file is there", gone, err)
			}
			if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("half a pair is left: %v", err)
			}
			if err := os.WriteFile(gone, kept, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ReadAuthority(cert, key); err != nil {
			t.Errorf("the pair has changed: %v", err)
		}
	}
}

// TestReadKeys: keys that OpenSSL writes are read; what is none is named.
func TestReadKeys(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	ca := authority(t, P256)
	if err := ca.Write(path("ca.crt"), path("ca.key")); err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ca.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKCS8PrivateKey(stranger)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(Request{Identities: []identity.Identity{{Role: identity.Viewer, Name: "v"}}, From: now, Until: now.Add(time.Hour), Algorithm: P256})
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.Write(path("leaf.crt"), path("leaf.key")); err != nil {
		t.Fatal(err)
	}
	block := func(name, kind string, der []byte, before ...byte) {
		if err := os.WriteFile(path(name), append(before, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	block("sec1.key", "EC PRIVATE KEY", sec1, pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 0}})...)
	block("other.key", "PRIVATE KEY", other)
	block("encrypted.key", "ENCRYPTED PRIVATE KEY", []byte("x"))
	for _, c := range []struct{ cert, key, want string }{
		{"ca.crt", "sec1.key", ""},
		{"ca.crt", "other.key", "is not the key of"},
		{"ca.crt", "encrypted.key", "must not be encrypted"},
		{"ca.crt", "ca.crt", "no private key"},
		{"ca.key", "ca.key", "no certificate"},
		{"leaf.crt", "leaf.key", "no authority's certificate"},
		{"none.crt", "ca.key", "no such file"},
		{"ca.crt", "none.key", "no such file"},
	} {
		_, err := ReadAuthority(path(c.cert), path(c.key))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s and %s: %v, want %q", c.cert, c.key, err, c.want)
		}
	}
}
