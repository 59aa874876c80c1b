package labtest

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/internal/identity"
	"onlink/internal/pki"
)

// Authority is a certificate authority of a test.
type Authority struct {
	ca   *pki.Authority
	file string
}

// NewAuthority makes an authority.
func NewAuthority(t *testing.T) *Authority {
	t.Helper()
	ca, err := pki.NewAuthority("authority", time.Now(), time.Now().Add(365*24*time.Hour), pki.P256)
	Must(t, err)
	dir := t.TempDir()
	a := &Authority{ca: ca, file: filepath.Join(dir, "ca.crt")}
	Must(t, ca.Write(a.file, filepath.Join(dir, "ca.key")))
	return a
}

// Issue makes a certificate of a day for servers and clients at addrs.
func (a *Authority) Issue(t *testing.T, role identity.Role, name string, addrs ...netip.Addr) conf.TLS {
	t.Helper()
	return a.IssueFor(t, time.Now(), time.Now().Add(24*time.Hour), role, name, addrs...)
}

// IssueFor is Issue with the validity.
func (a *Authority) IssueFor(t *testing.T, from, until time.Time, role identity.Role, name string, addrs ...netip.Addr) conf.TLS {
	t.Helper()
	p, err := a.ca.Issue(pki.Request{
		Identities: []identity.Identity{{Role: role, Name: name}}, IPs: addrs, From: from, Until: until, Algorithm: pki.P256,
	})
	Must(t, err)
	dir := t.TempDir()
	files := conf.TLS{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key"), CA: a.file}
	Must(t, p.Write(files.Cert, files.Key))
	return files
}
