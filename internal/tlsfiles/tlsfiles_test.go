package tlsfiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"onlink/internal/identity"
	"onlink/internal/strictyaml"
)

// TestSection: the section's values and mistakes.
func TestSection(t *testing.T) {
	t.Parallel()
	plain := strings.Repeat("ab", 32)
	colons := strings.ToUpper(strings.Repeat("ab:", 31)) + "AB"
	for _, c := range []struct {
		text string
		want Files
		err  string
	}{
		{"", Files{}, ""},
		{"{cert: /c, key: /k, ca: /a}", Files{Cert: "/c", Key: "/k", CA: "/a"}, ""},
		{"{cert: /c, key: /k, ca: /a, roles: [{subject: CN=a, role: node, name: a}, {fingerprint: '" + colons + "', role: viewer}]}", Files{Cert: "/c", Key: "/k", CA: "/a", Roles: identity.Map{
			{Subject: "CN=a", Identity: identity.Identity{Role: identity.Node, Name: "a"}}, {Fingerprint: plain, Identity: identity.Identity{Role: identity.Viewer, Name: plain}},
		}}, ""},
		{"{cert: /c, roles: [{subject: CN=a, role: viewer}]}", Files{}, "f:1: tls.ca: is missing; mutual TLS needs cert, key and ca"},
		{"{cert: /c, key: /k, ca: /a, roles: [{subject: CN=a, role: node}]}", Files{}, "f:1: tls.roles[0]: the name is empty; write role and name, such as {subject: CN=r1n1, role: node, name: r1n1}"},
		{"{cert: /c, key: /k, ca: /a, roles: [{role: viewer, name: a}]}", Files{}, "f:1: tls.roles[0]: needs subject (such as CN=alice,O=net) or fingerprint, and not both; onlinkctl pki show prints them"},
		{"{cert: /c, key: /k, ca: /a, roles: [{subject: CN=a, fingerprint: '" + colons + "', role: viewer, name: a}]}", Files{}, "f:1: tls.roles[0]: needs subject (such as CN=alice,O=net) or fingerprint, and not both; onlinkctl pki show prints them"},
		{"{cert: /c, key: /k, ca: /a, roles: [{fingerprint: ab, role: viewer}]}", Files{}, `f:1: tls.roles[0].fingerprint: "ab" is not a SHA-256 fingerprint of 64 hexadecimal digits; onlinkctl pki show prints it`},
		{"{cert: /c, key: /k, ca: /a, roles: [{subject: CN=a, role: root}]}", Files{}, `f:1: tls.roles[0].role: "root" is not known; use one of viewer, operator, node`},
		{"{cert: /c, key: /k}", Files{}, "f:1: tls.ca: is missing; mutual TLS needs cert, key and ca"},
		{"{cert: c, key: /k, ca: /a}", Files{}, `f:1: tls.cert: "c" is not an absolute path; begin it with "/"`},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			var f Files
			d := strictyaml.Parse("f", []byte("tls: "+c.text), func(v strictyaml.Value) { v.Mapping(strictyaml.Fields{"tls": f.Read}) })
			f.Validate("tls", d)
			if err := d.Err(); c.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.err) {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(f, c.want) || f.Enabled() != (c.text != "") {
				t.Errorf("got %+v, enabled %v; want %+v", f, f.Enabled(), c.want)
			}
		})
	}
}

// issue makes a certificate for 127.0.0.1 that is its own CA.
func issue(t *testing.T, name string) Files {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(file, kind string, b []byte) string {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert := write("crt", "CERTIFICATE", der)
	return Files{Cert: cert, Key: write("key", "PRIVATE KEY", raw), CA: cert}
}

// opened reads the files.
func opened(t *testing.T, f Files) *Keeper {
	t.Helper()
	k, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// shake returns how a handshake of two ends goes.
func shake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := lis.Accept()
		if err == nil {
			err = conn.(*tls.Conn).HandshakeContext(t.Context())
			conn.Close()
		}
		served <- err
	}()
	dialer := tls.Dialer{Config: client}
	conn, err := dialer.DialContext(t.Context(), "tcp", lis.Addr().String())
	if err == nil {
		defer conn.Close() // not before the server has ended the handshake too
	}
	return errors.Join(err, <-served)
}

// TestHandshake: both ends prove themselves with certificates of one CA; who
// has none, or one of another CA, is refused.
func TestHandshake(t *testing.T) {
	t.Parallel()
	node, other := issue(t, "node"), issue(t, "other")
	server := opened(t, node).Server()
	for _, c := range []struct {
		name string
		open func() *tls.Config
		ok   bool
	}{
		{"mutual", opened(t, node).Client, true},
		{"mutual, as etcd's client", opened(t, node).Trust, true},
		{"without a certificate of its own", opened(t, Files{CA: node.CA}).Trust, false},
		{"of another CA", opened(t, other).Client, false},
		{"trusts another CA", opened(t, Files{Cert: node.Cert, Key: node.Key, CA: other.CA}).Client, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := shake(t, server, c.open()); (err == nil) != c.ok {
				t.Errorf("got %v, want success %v", err, c.ok)
			}
		})
	}
}

// TestFaultyFiles: files that are no certificates, or not there, are named.
func TestFaultyFiles(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := issue(t, "node")
	bad, missing := Files{CA: text, Cert: text, Key: text}, Files{CA: "/nonexistent", Cert: "/nonexistent", Key: "/nonexistent"}
	for _, c := range []struct {
		name  string
		files Files
		want  string
	}{
		{"no certificate", bad, ""},
		{"missing", missing, "/nonexistent"},
		{"missing CA", Files{Cert: good.Cert, Key: good.Key, CA: "/nonexistent"}, "/nonexistent"},
		{"CA alone", Files{CA: text}, text + ": no certificate in PEM form"},
		{"CA", Files{Cert: good.Cert, Key: good.Key, CA: text}, text + ": no certificate in PEM form"},
		{"key of another", Files{Cert: good.Cert, Key: issue(t, "other").Key, CA: good.CA}, "does not match"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := c.files.Open(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
