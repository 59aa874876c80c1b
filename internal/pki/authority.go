// Package pki makes a small certificate authority and certificates of it, with the
// SAN URIs by which onlink knows their holders (package identity). It keeps nothing:
// onlinkctl has the keys in files, the controller of a cluster in a Secret. Who has the
// authority's key has every role.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onlink/internal/identity"
)

// Algorithm is that of a key.
type Algorithm string

// The algorithms. P-256 is the one that every TLS library has.
const (
	P256    Algorithm = "p256"
	Ed25519 Algorithm = "ed25519"
)

// Algorithms are all of them, the default first.
func Algorithms() []Algorithm { return []Algorithm{P256, Ed25519} }

// Backdate is how long before its making a certificate is valid: clocks of machines
// differ.
const Backdate = 5 * time.Minute

// Pair is a certificate and its private key.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Authority signs certificates.
type Authority struct{ Pair }

// Request describes a certificate.
type Request struct {
	// Identities are the roles and names of the holder; the first name is the common
	// name too.
	Identities []identity.Identity
	// DNS and IPs are the names and addresses that clients reach the holder by. A
	// node's name is added where it is a DNS name.
	DNS []string
	IPs []netip.Addr
	// From is the present time, and Until the end of the validity.
	From, Until time.Time
	Algorithm   Algorithm
}

// NewAuthority makes an authority that signs its own certificate.
func NewAuthority(name string, from, until time.Time, a Algorithm) (*Authority, error) {
	if strings.TrimSpace(name) == "" {
		return nil, errors.New("the authority's name is empty")
	}
	if !until.After(from) {
		return nil, errors.New("the validity has no duration")
	}
	key, err := NewKey(a)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: from.Add(-Backdate), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Authority{Pair{cert, key}}, nil
}

// Issue makes a key and a certificate for it.
func (a *Authority) Issue(r Request) (Pair, error) {
	key, err := NewKey(r.Algorithm)
	if err != nil {
		return Pair{}, err
	}
	cert, err := a.Sign(r, key.Public())
	if err != nil {
		return Pair{}, err
	}
	return Pair{cert, key}, nil
}

// Sign makes a certificate for the key of another machine.
func (a *Authority) Sign(r Request, public crypto.PublicKey) (*x509.Certificate, error) {
	if len(r.Identities) == 0 {
		return nil, errors.New("a certificate needs a role and a name")
	}
	if !r.Until.After(r.From) {
		return nil, errors.New("the validity has no duration")
	}
	if r.Until.After(a.Cert.NotAfter) {
		return nil, fmt.Errorf("the authority's own certificate ends on %s, before the new one would: use fewer days, or make a new authority",
			a.Cert.NotAfter.UTC().Format(time.DateOnly))
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: r.Identities[0].Name}, NotBefore: r.From.Add(-Backdate), NotAfter: r.Until,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, DNSNames: slices.Clone(r.DNS),
	}
	for _, id := range r.Identities {
		if _, err := identity.New(id.Role, id.Name); err != nil {
			return nil, err
		}
		template.URIs = append(template.URIs, id.URI())
		if id.Role == identity.Node && isDNSName(id.Name) && !slices.Contains(template.DNSNames, id.Name) {
			template.DNSNames = append(template.DNSNames, id.Name)
		}
	}
	for _, name := range r.DNS {
		if !isDNSName(name) {
			return nil, fmt.Errorf("%q is no DNS name; use one such as rr1.example.com", name)
		}
	}
	for _, ip := range r.IPs {
		if !ip.IsValid() || ip.Zone() != "" {
			return nil, fmt.Errorf("%v is no address for a certificate; use one without a zone", ip)
		}
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.Unmap().AsSlice()))
	}
	// Without a name to be reached by it is a client's alone: an operator's
	// certificate passes for no agent.
	if len(template.DNSNames)+len(template.IPAddresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return sign(template, a.Cert, public, a.Key)
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// NewKey makes a private key.
func NewKey(a Algorithm) (crypto.Signer, error) {
	switch a {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("unknown algorithm %q; use %s or %s", a, P256, Ed25519)
}

// serial returns a random number of 127 bits (RFC 5280 allows 20 bytes, positive).
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: see crypto/rand
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

// isDNSName reports whether a name can be a DNS name of a certificate.
func isDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return true
}
