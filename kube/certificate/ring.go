package certificate

import (
	"crypto/x509"
	"fmt"
	"time"

	"onlink/internal/identity"
	"onlink/internal/pki"
)

// authorityLife is the validity of an authority; its successor is made in the last
// quarter.
const authorityLife = 5 * 365 * 24 * time.Hour

// Keys of the Secret.
const (
	currentCert = "ca.crt"
	currentKey  = "ca.key"
	nextCert    = "next.crt"
	nextKey     = "next.key"
	formerCert  = "former.crt"
	formerUntil = "former.until"
)

// Ring is the authority and, while it is replaced, its neighbours in time. Nodes receive
// all certificates of the ring with each of their own. So a successor is known to every
// node with a valid certificate before it signs, and the former authority stays until
// nothing that it signed is valid: at no moment do two nodes not accept each other.
type Ring struct {
	Current *pki.Authority
	Next    *pki.Authority    // nil: none
	Former  *x509.Certificate // nil: none; without its key it signs no more
	Until   time.Time         // of Former
}

// NewRing returns a ring with a new authority.
func NewRing(now time.Time) (*Ring, error) {
	ca, err := newAuthority(now)
	if err != nil {
		return nil, err
	}
	return &Ring{Current: ca}, nil
}

func newAuthority(now time.Time) (*pki.Authority, error) {
	return pki.NewAuthority("onlink nodes", now, now.Add(authorityLife), pki.P256)
}

// ParseRing reads the Secret's data.
func ParseRing(data map[string][]byte) (*Ring, error) {
	r := &Ring{}
	var err error
	if r.Current, err = pki.ParseAuthority(currentCert, data[currentCert], currentKey, data[currentKey]); err != nil {
		return nil, err
	}
	if len(data[nextCert])+len(data[nextKey]) > 0 {
		if r.Next, err = pki.ParseAuthority(nextCert, data[nextCert], nextKey, data[nextKey]); err != nil {
			return nil, err
		}
	}
	if len(data[formerCert])+len(data[formerUntil]) > 0 {
		certs, err := pki.ParseCertificates(data[formerCert])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", formerCert, err)
		}
		r.Former = certs[0]
		if r.Until, err = time.Parse(time.RFC3339, string(data[formerUntil])); err != nil {
			return nil, fmt.Errorf("%s: %w", formerUntil, err)
		}
	}
	return r, nil
}

// Data returns the Secret's data.
func (r *Ring) Data() (map[string][]byte, error) {
	data := map[string][]byte{}
	put := func(cert, key string, a *pki.Authority) error {
		text, err := pki.EncodeKey(a.Key)
		data[cert], data[key] = pki.EncodeCertificates(a.Cert), text
		return err
	}
	if err := put(currentCert, currentKey, r.Current); err != nil {
		return nil, err
	}
	if r.Next != nil {
		if err := put(nextCert, nextKey, r.Next); err != nil {
			return nil, err
		}
	}
	if r.Former != nil {
		data[formerCert], data[formerUntil] = pki.EncodeCertificates(r.Former), []byte(r.Until.UTC().Format(time.RFC3339))
	}
	return data, nil
}

// Trust returns the certificates of the ring as PEM.
func (r *Ring) Trust() []byte {
	list := []*x509.Certificate{r.Current.Cert}
	if r.Next != nil {
		list = append(list, r.Next.Cert)
	}
	if r.Former != nil {
		list = append(list, r.Former)
	}
	return pki.EncodeCertificates(list...)
}

// Turn returns the ring as it is to be now, and what was done; "": nothing. life is the
// longest validity of a node's certificate. rotate begins a replacement before it is
// due.
func (r *Ring) Turn(now time.Time, life time.Duration, rotate bool) (next *Ring, done string, err error) {
	// Clocks differ by less than what certificates are dated back.
	outlived := func(since time.Time) bool { return now.Sub(since) >= life+pki.Backdate }
	switch {
	case r.Former != nil && !now.Before(r.Until):
		return &Ring{Current: r.Current, Next: r.Next}, "removed the former authority", nil
	case r.Next != nil && r.Former == nil && outlived(r.Next.Cert.NotBefore.Add(pki.Backdate)):
		return &Ring{Current: r.Next, Former: r.Current.Cert, Until: now.Add(life + pki.Backdate)}, "the next authority signs", nil
	case r.Next == nil && r.Former == nil && (rotate || r.Current.Cert.NotAfter.Sub(now) < authorityLife/4):
		ca, err := newAuthority(now)
		if err != nil {
			return nil, "", err
		}
		return &Ring{Current: r.Current, Next: ca}, "made the next authority", nil
	}
	return r, "", nil
}

// Issue returns a node's certificate, followed by the certificates of the ring, which
// the node trusts: the definition of [Signer], of which the blocks behind the first are
// no intermediate certificates.
func (r *Ring) Issue(node string, g *Granted, now time.Time, life time.Duration) ([]byte, error) {
	until := now.Add(life)
	if end := r.Current.Cert.NotAfter; end.Before(until) {
		until = end
	}
	cert, err := r.Current.Sign(pki.Request{
		Identities: []identity.Identity{{Role: identity.Node, Name: node}}, IPs: g.Addresses, From: now, Until: until,
	}, g.Public)
	if err != nil {
		return nil, err
	}
	return append(pki.EncodeCertificates(cert), r.Trust()...), nil
}
