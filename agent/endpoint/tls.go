package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"onlink/agent/config"
)

// keyPair loads one mutual-TLS identity.
func keyPair(t config.TLS) (tls.Certificate, *x509.CertPool, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return cert, nil, err
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return cert, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return cert, nil, fmt.Errorf("%s: no certificate in PEM form", t.CA)
	}
	return cert, pool, nil
}

// ServerTLS returns mutual TLS for a server: clients must have a certificate of
// the same CA.
func ServerTLS(t config.TLS) (*tls.Config, error) {
	cert, pool, err := keyPair(t)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}, nil
}

// ClientTLS returns mutual TLS for a client.
func ClientTLS(t config.TLS) (*tls.Config, error) {
	cert, pool, err := keyPair(t)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}

// TrustTLS is TLS with or without a certificate of our own: etcd may
// authenticate its clients by password.
func TrustTLS(t config.TLS) (*tls.Config, error) {
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, err
	}
	out := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12} // etcd 3.4 of Debian has 1.2
	if !out.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in PEM form", t.CA)
	}
	if t.Cert == "" {
		return out, nil
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	out.Certificates = []tls.Certificate{cert}
	return out, nil
}
