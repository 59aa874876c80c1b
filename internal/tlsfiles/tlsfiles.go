// Package tlsfiles reads the files of a TLS endpoint: the section `tls` of
// onlinkd.yaml, which several sections have, and the configurations of crypto/tls
// for them. It keeps no file open. A [Keeper] reads the files again when they change.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"onlink/internal/identity"
	"onlink/internal/strictyaml"
)

// Files names the files of one endpoint of mutual TLS: either all are set or
// none.
type Files struct {
	Cert string // this agent's certificate chain, PEM
	Key  string // its private key, PEM
	CA   string // certificates that the other side must chain to, PEM
	// Roles has the identities of clients' certificates that have none of their own;
	// of servers alone.
	Roles identity.Map
}

// Enabled reports whether the section has anything.
func (f Files) Enabled() bool { return f.Cert != "" || f.Key != "" || f.CA != "" || len(f.Roles) > 0 }

// Read reads the section.
func (f *Files) Read(v strictyaml.Value) {
	v.Mapping(strictyaml.Fields{
		"cert": strictyaml.File(&f.Cert), "key": strictyaml.File(&f.Key), "ca": strictyaml.File(&f.CA),
		"roles": func(v strictyaml.Value) { v.List(func(v strictyaml.Value) { readRole(v, &f.Roles) }) },
	})
}

// readRole reads an entry of roles.
func readRole(v strictyaml.Value, to *identity.Map) {
	var e identity.Entry
	v.Mapping(strictyaml.Fields{
		"subject": strictyaml.Word(&e.Subject), "fingerprint": strictyaml.Word(&e.Fingerprint),
		"role": strictyaml.OneOf(&e.Role, identity.Roles()...), "name": strictyaml.Word(&e.Name),
	})
	if v.Failed() {
		return
	}
	if (e.Subject == "") == (e.Fingerprint == "") {
		v.Fail("needs subject (such as CN=alice,O=net) or fingerprint, and not both; onlinkctl pki show prints them")
		return
	}
	if e.Fingerprint != "" {
		sum, err := identity.ParseFingerprint(e.Fingerprint)
		if err != nil {
			v.FailKey("fingerprint", "%v", err)
			return
		}
		e.Fingerprint = sum
	}
	if e.Name == "" && e.Role != identity.Node {
		e.Name = strings.NewReplacer("/", "_", " ", "_").Replace(e.Subject + e.Fingerprint)
	}
	if _, err := identity.New(e.Role, e.Name); err != nil {
		v.Fail("%v; write role and name, such as {subject: CN=r1n1, role: node, name: r1n1}", err)
		return
	}
	*to = append(*to, e)
}

// Validate adds the missing keys of the section, which is the field path of the
// file, to its mistakes. It requires all three files: without a CA every client
// would be admitted.
func (f Files) Validate(path string, d *strictyaml.Document) {
	if !f.Enabled() {
		return
	}
	for _, one := range []struct{ key, file string }{{"cert", f.Cert}, {"key", f.Key}, {"ca", f.CA}} {
		if one.file == "" && !d.Failed(path+"."+one.key) {
			d.Fail(path+"."+one.key, "is missing; mutual TLS needs cert, key and ca")
		}
	}
}

// material is what the files had when they were read.
type material struct {
	certs []tls.Certificate // none where no certificate is named
	pool  *x509.CertPool
	ca    []*x509.Certificate
}

// read reads the files.
func (f Files) read() (*material, error) {
	m := &material{pool: x509.NewCertPool()}
	if f.Cert != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, err
		}
		m.certs = []tls.Certificate{cert}
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.CA, err)
		}
		m.pool.AddCert(c)
		m.ca = append(m.ca, c)
	}
	if len(m.ca) == 0 {
		return nil, fmt.Errorf("%s: no certificate in PEM form", f.CA)
	}
	return m, nil
}

// server is mutual TLS for a server: clients must have a certificate of the CA.
// Without tickets a session ends with its connection, so that no client returns
// without showing its certificate to the present CA.
func (m *material) server() *tls.Config {
	return &tls.Config{
		Certificates: m.certs, ClientCAs: m.pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	}
}

// client is TLS for a client.
func (m *material) client() *tls.Config {
	return &tls.Config{Certificates: m.certs, RootCAs: m.pool, MinVersion: tls.VersionTLS13}
}
