// Package tlsfiles reads the files of a TLS endpoint: the section `tls` of
// onlinkd.yaml, which several sections have, and the configurations of crypto/tls
// for them. It keeps no file open and reads each once.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"onlink/internal/strictyaml"
)

// Files names the files of one endpoint of mutual TLS: either all are set or
// none.
type Files struct {
	Cert string // this agent's certificate chain, PEM
	Key  string // its private key, PEM
	CA   string // certificates that the other side must chain to, PEM
}

// Enabled reports whether the files are named.
func (f Files) Enabled() bool { return f != Files{} }

// Read reads the section.
func (f *Files) Read(v strictyaml.Value) {
	v.Mapping(strictyaml.Fields{"cert": strictyaml.File(&f.Cert), "key": strictyaml.File(&f.Key), "ca": strictyaml.File(&f.CA)})
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

// Server returns mutual TLS for a server: clients must have a certificate of
// the same CA.
func (f Files) Server() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	pool, err := f.authorities()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}, nil
}

// Client returns mutual TLS for a client.
func (f Files) Client() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	pool, err := f.authorities()
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}

// Trust returns TLS for a client, with or without a certificate of its own:
// etcd may authenticate its clients by password.
func (f Files) Trust() (*tls.Config, error) {
	pool, err := f.authorities()
	if err != nil {
		return nil, err
	}
	out := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12} // etcd 3.4 of Debian has 1.2
	if f.Cert == "" {
		return out, nil
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	out.Certificates = []tls.Certificate{cert}
	return out, nil
}

// authorities returns the certificates of the file CA.
func (f Files) authorities() (*x509.CertPool, error) {
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in PEM form", f.CA)
	}
	return pool, nil
}
