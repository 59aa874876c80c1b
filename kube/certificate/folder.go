package certificate

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"onlink/internal/atomicfile"
	"onlink/internal/identity"
	"onlink/internal/pki"
)

// The files of a folder. The rendered configuration names the first two. Certificate
// and key are in one, so that no reader finds one without the other.
const (
	pairFile  = "node.pem"
	trustFile = "ca.crt"
	keyFile   = "request.key" // of the request under way
)

// standIn is the name of the authority that nobody has.
const standIn = "onlink, no authority"

// standInLife is longer than a node waits: an agent rejects a new configuration while a
// certificate of it has expired.
const standInLife = 10 * 365 * 24 * time.Hour

// Folder is where an agent finds its certificate.
type Folder string

func (f Folder) path(name string) string { return filepath.Join(string(f), name) }

// StandIn writes files that the agent can start with and nobody accepts, because the
// authority's key is gone. The agent reads the real ones without a restart.
func (f Folder) StandIn(node string, now time.Time) error {
	ca, err := pki.NewAuthority(standIn, now, now.Add(standInLife), pki.P256)
	if err != nil {
		return err
	}
	pair, err := ca.Issue(pki.Request{
		Identities: []identity.Identity{{Role: identity.Node, Name: node}}, From: now, Until: ca.Cert.NotAfter, Algorithm: pki.P256,
	})
	if err != nil {
		return err
	}
	return f.write(pair, pki.EncodeCertificates(ca.Cert))
}

// Begin writes the stand-in where there is nothing yet.
func (f Folder) Begin(node string, now time.Time) error {
	for _, name := range []string{pairFile, trustFile} {
		if _, err := os.Stat(f.path(name)); errors.Is(err, fs.ErrNotExist) {
			return f.StandIn(node, now)
		}
	}
	return nil
}

// write replaces the files. What is trusted comes first: it holds more than before.
func (f Folder) write(p pki.Pair, trust []byte) error {
	key, err := pki.EncodeKey(p.Key)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(f.path(trustFile), trust, 0o644); err != nil {
		return fmt.Errorf("write the authorities' certificates: %w", err)
	}
	if err := atomicfile.Replace(f.path(pairFile), append(pki.EncodeCertificates(p.Cert), key...), 0o600); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	return nil
}

// Current returns the certificate of the files; nil: they are the stand-in. That of init
// is root's, and no other's to read. The stand-in takes the place of a certificate that
// has expired, with which the agent would reject each new configuration.
func (f Folder) Current(node string, now time.Time) (*x509.Certificate, error) {
	text, err := os.ReadFile(f.path(pairFile))
	if err != nil {
		return nil, f.Begin(node, now)
	}
	pair, err := pki.ParsePair(pairFile, text, pairFile, text)
	switch {
	case err != nil || !now.Before(pair.Cert.NotAfter):
		return nil, f.StandIn(node, now)
	case pair.Cert.Issuer.CommonName == standIn:
		return nil, nil //nolint:nilnil // there is no certificate, and nothing failed
	}
	return pair.Cert, nil
}

// RequestKey returns the key of the request under way, which a former process may have
// made.
func (f Folder) RequestKey() (crypto.Signer, error) {
	if text, err := os.ReadFile(f.path(keyFile)); err == nil {
		if key, err := pki.ParseKey(text); err == nil {
			return key, nil
		}
	}
	key, err := pki.NewKey(pki.P256)
	if err != nil {
		return nil, err
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Replace(f.path(keyFile), text, 0o600); err != nil {
		return nil, fmt.Errorf("write the key of the request: %w", err)
	}
	return key, nil
}

// Drop forgets the key of the request: the next one is another.
func (f Folder) Drop() error {
	if err := os.Remove(f.path(keyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the key of the request: %w", err)
	}
	return nil
}

// Install writes what the controller answered to a request with this key, once it is what
// was asked for.
func (f Folder) Install(key crypto.Signer, answer []byte, node string, addresses []netip.Addr, now time.Time) error {
	certs, err := pki.ParseCertificates(answer)
	if err != nil {
		return err
	}
	pair := pki.Pair{Cert: certs[0], Key: key}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(pair.Cert.PublicKey) {
		return errors.New("it is for another key")
	}
	roots := x509.NewCertPool()
	for _, c := range certs[1:] {
		roots.AddCert(c)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := pair.Cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return err
		}
	}
	if !Fits(pair.Cert, node, addresses) {
		return fmt.Errorf("it is for %v, and not for node %s at %v", pair.Cert.URIs, node, addresses)
	}
	return errors.Join(f.write(pair, pki.EncodeCertificates(certs[1:]...)), f.Drop())
}

// Fits reports whether a certificate is one of a node with these addresses.
func Fits(c *x509.Certificate, node string, addresses []netip.Addr) bool {
	ids, err := identity.Of(c)
	if err != nil || !slices.Equal(ids, []identity.Identity{{Role: identity.Node, Name: node}}) {
		return false
	}
	var have []netip.Addr
	for _, ip := range c.IPAddresses {
		a, _ := netip.AddrFromSlice(ip)
		have = append(have, a.Unmap())
	}
	slices.SortFunc(have, netip.Addr.Compare)
	return slices.Equal(have, slices.SortedFunc(slices.Values(addresses), netip.Addr.Compare))
}

// spread is the part of a validity over which the renewals of nodes that began together
// are spread, and half where it begins: an agent warns in the last third.
const half, spread = 0.45, 0.1

// Renewal returns when a certificate is to be replaced.
func Renewal(c *x509.Certificate) time.Time {
	since := c.NotBefore.Add(pki.Backdate)
	share := float64(new(big.Int).Mod(c.SerialNumber, big.NewInt(1000)).Int64()) / 1000 // random for each
	return since.Add(time.Duration((half + spread*share) * float64(c.NotAfter.Sub(since))))
}
