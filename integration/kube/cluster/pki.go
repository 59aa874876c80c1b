package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// credentials are the files by which the parts of a cluster know each other.
type credentials struct {
	dir    string
	server string // URL of the API server

	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	tokens strings.Builder // the API server's file of static tokens
}

// file names a file of the credentials.
func (c *credentials) file(name string) string { return filepath.Join(c.dir, name) }

// newCredentials makes the authority and the key of service accounts.
func newCredentials(dir, server string) (*credentials, error) {
	c := &credentials{dir: dir, server: server}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make credentials: %w", err)
	}
	var err error
	if c.caKey, err = c.key("ca.key"); err != nil {
		return nil, err
	}
	if _, err = c.key("sa.key"); err != nil {
		return nil, err
	}
	template := certificate("onlink test cluster")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	c.ca = template
	der, err := c.sign("ca.crt", template, &c.caKey.PublicKey)
	if err != nil {
		return nil, err
	}
	if c.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("read ca.crt: %w", err)
	}
	return c, nil
}

func certificate(name string, groups ...string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// key makes a private key and writes it to a file.
func (c *credentials) key(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	return key, c.write(name, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// sign signs a certificate with the authority's key and writes it to a file.
func (c *credentials) sign(name string, template *x509.Certificate, key *ecdsa.PublicKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, c.ca, key, c.caKey)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	return der, c.write(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// pair makes NAME.key and NAME.crt.
func (c *credentials) pair(name string, template *x509.Certificate, addresses ...net.IP) error {
	key, err := c.key(name + ".key")
	if err != nil {
		return err
	}
	template.IPAddresses = addresses
	_, err = c.sign(name+".crt", template, &key.PublicKey)
	return err
}

// user makes a static token and NAME.conf, the kubeconfig with it, and returns
// the token.
func (c *credentials) user(name, user string, groups ...string) (string, error) {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	token := hex.EncodeToString(random)
	fmt.Fprintf(&c.tokens, "%s,%s,%s,%q\n", token, user, user, strings.Join(groups, ","))
	return token, c.write(name+".conf", kubeconfig(c.server, c.file("ca.crt"), token))
}

// kubeconfig returns the text of a file that kubectl and client-go take.
func kubeconfig(server, ca, token string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: k, context: {cluster: k, user: u}}]
current-context: k
`, server, ca, token)
}

func (c *credentials) write(name string, text []byte) error {
	if err := os.WriteFile(c.file(name), text, 0o600); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}
