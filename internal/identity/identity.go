// Package identity says who holds a certificate: a [Role] and a name, from the SAN
// URI onlink://ROLE/NAME, or from a [Map] of the server's own. It decides no right:
// the servers do, by the role.
package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Role is what a caller may do. One does not include another's rights by itself.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // reads
	Operator Role = "operator" // reads and changes
	Node     Role = "node"     // acts for one node at the block registry, and asks for its explanations
)

// Roles are all roles, the least first.
func Roles() []Role { return []Role{Viewer, Operator, Node} }

// ParseRole reads the name of a role.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", fmt.Errorf("unknown role %q; use %s", s, Either(Roles()))
}

// Either writes roles as alternatives: "viewer, operator or node".
func Either(list []Role) string {
	words := make([]string, len(list))
	for i, r := range list {
		words[i] = string(r)
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// scheme is that of the SAN URIs.
const scheme = "onlink"

// maxName bounds a name: that of a node is at most a DNS name.
const maxName = 253

// Identity is a role and the name of its holder: of a node, a person or a program.
type Identity struct {
	Role Role
	Name string
}

// New returns an identity whose URI can be written and read again.
func New(role Role, name string) (Identity, error) {
	if _, err := ParseRole(string(role)); err != nil {
		return Identity{}, err
	}
	switch {
	case name == "":
		return Identity{}, errors.New("the name is empty")
	case len(name) > maxName:
		return Identity{}, fmt.Errorf("the name has %d bytes; use at most %d", len(name), maxName)
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return r == '/' || unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return Identity{}, fmt.Errorf("the name %q has a space, a slash or an unprintable character; use letters, digits and the signs - and . in it", name)
	}
	return Identity{Role: role, Name: name}, nil
}

// URI returns the identity as the URI of a SAN.
func (i Identity) URI() *url.URL {
	return &url.URL{Scheme: scheme, Host: string(i.Role), Path: "/" + i.Name}
}

// String returns the URI's text: onlink://node/r1n1.
func (i Identity) String() string { return i.URI().String() }

// fromURI reads the URI of a SAN.
func fromURI(u *url.URL) (Identity, error) {
	name, rooted := strings.CutPrefix(u.Path, "/")
	if !rooted || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || u.Port() != "" {
		return Identity{}, fmt.Errorf("%q is not %s://ROLE/NAME", u, scheme)
	}
	id, err := New(Role(u.Host), name)
	if err != nil {
		return Identity{}, fmt.Errorf("%q: %w", u, err)
	}
	return id, nil
}

// Of returns the identities of a certificate: one for each of its SAN URIs of our
// scheme. It is an error when one of them cannot be read, so that no mistyped
// certificate has a part of its rights.
func Of(cert *x509.Certificate) ([]Identity, error) {
	var out []Identity
	for _, u := range cert.URIs {
		if u.Scheme != scheme {
			continue
		}
		id, err := fromURI(u)
		if err != nil {
			return nil, fmt.Errorf("SAN URI %w", err)
		}
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// Fingerprint returns the SHA-256 of a certificate in hexadecimal digits.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Entry gives the certificates with a subject, or the one with a fingerprint, an
// identity.
type Entry struct {
	Subject     string // as RFC 2253 writes it: CN=alice,O=net; empty: Fingerprint is set
	Fingerprint string // as [Fingerprint] returns it
	Identity
}

// Map has identities of certificates that have none of their own, or another.
type Map []Entry

// Of returns the identities of a certificate: those of the map, and where that has
// none the certificate's own.
func (m Map) Of(cert *x509.Certificate) ([]Identity, error) {
	var out []Identity
	subject, sum := cert.Subject.String(), Fingerprint(cert)
	for _, e := range m {
		if e.Fingerprint == sum || e.Subject != "" && e.Subject == subject {
			out = append(out, e.Identity)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	return Of(cert)
}

// ParseFingerprint reads a SHA-256 of hexadecimal digits, with or without colons.
func ParseFingerprint(s string) (string, error) {
	plain := strings.ToLower(strings.ReplaceAll(s, ":", ""))
	if b, err := hex.DecodeString(plain); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not a SHA-256 fingerprint of 64 hexadecimal digits; onlinkctl pki show prints it", s)
	}
	return plain, nil
}

// Has reports whether one of the identities has one of the roles.
func Has(list []Identity, roles ...Role) bool {
	return slices.ContainsFunc(list, func(i Identity) bool { return slices.Contains(roles, i.Role) })
}

// Join writes identities for people.
func Join(list []Identity) string {
	words := make([]string, len(list))
	for i, id := range list {
		words[i] = id.String()
	}
	return strings.Join(words, ", ")
}
