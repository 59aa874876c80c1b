package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"math"
	"strings"

	"onlink/internal/identity"
)

// shown returns what there is to show of a certificate.
func (a *app) shown(c *x509.Certificate) shown {
	s := shown{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Authority: c.IsCA, DNS: append([]string{}, c.DNSNames...), IPs: []string{}, Identities: []string{},
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Fingerprint: identity.Fingerprint(c),
		Days: int(math.Floor(c.NotAfter.Sub(a.now()).Hours() / 24)),
	}
	for _, ip := range c.IPAddresses {
		s.IPs = append(s.IPs, ip.String())
	}
	ids, err := identity.Of(c)
	if err != nil {
		s.Problem = err.Error()
	}
	for _, id := range ids {
		s.Identities = append(s.Identities, id.String())
	}
	return s
}

// write prints one line a subject.
func (s *shown) write(w io.Writer) error {
	role := strings.Join(s.Identities, ", ")
	switch {
	case s.Problem != "":
		role = "none: " + s.Problem
	case role == "" && s.Authority:
		role = "none: it is an authority"
	case role == "":
		role = "none: it has no SAN URI onlink://ROLE/NAME, and agents admit it only where tls.roles names it"
	}
	left := fmt.Sprintf("%d days left", s.Days)
	if s.Days < 0 {
		left = "EXPIRED"
	}
	const form = "2006-01-02 15:04 UTC"
	for _, line := range []struct{ key, text string }{
		{"Subject", s.Subject},
		{"Role", role},
		{"DNS", strings.Join(s.DNS, ", ")},
		{"IP", strings.Join(s.IPs, ", ")},
		{"Issuer", s.Issuer},
		{"Valid", fmt.Sprintf("%s to %s, %s", s.NotBefore.Format(form), s.NotAfter.Format(form), left)},
		{"Fingerprint", s.Fingerprint},
	} {
		if line.text == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-13s%s\n", line.key+":", clean(line.text)); err != nil {
			return err
		}
	}
	return nil
}

// holderOf names the holder of a certificate.
func holderOf(c *x509.Certificate) string {
	if ids, err := identity.Of(c); err == nil && len(ids) > 0 {
		return identity.Join(ids)
	}
	return c.Subject.String()
}
