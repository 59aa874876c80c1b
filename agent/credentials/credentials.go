// Package credentials knows the certificates of this node's TLS endpoints: which
// there are, which files cannot be read, and whether the node's own names it.
package credentials

import (
	"fmt"
	"iter"
	"slices"

	"onlink/agent/state"
	"onlink/internal/identity"
	"onlink/internal/tlsfiles"
	"onlink/ipam"
)

// Set holds the files of the endpoints; nil: the endpoint has none.
type Set struct {
	Admin    *tlsfiles.Keeper // of api.admin.tls
	Registry *tlsfiles.Keeper // of ipam.registry.tls
}

// all yields the files by section of the configuration.
func (s *Set) all() iter.Seq2[string, *tlsfiles.Keeper] {
	return func(yield func(string, *tlsfiles.Keeper) bool) {
		if s.Admin != nil && !yield("api.admin.tls", s.Admin) {
			return
		}
		if s.Registry != nil {
			yield("ipam.registry.tls", s.Registry)
		}
	}
}

// Problems returns why files cannot be read; the former ones are in use meanwhile.
func (s *Set) Problems() (out []string) {
	for section, k := range s.all() {
		if p := k.Problem(); p != "" {
			out = append(out, section+": "+p)
		}
	}
	return out
}

// Notes says that this node's certificate does not name it to the registry that it
// calls, which may be of a version before roles.
func (s *Set) Notes(reg *ipam.RegistrySettings, node string) []string {
	if s.Registry == nil || reg.Kind == ipam.RegistryEtcd || len(reg.Addresses) == 0 {
		return nil
	}
	cert, want := s.Registry.Certificates()[0], identity.Identity{Role: identity.Node, Name: node}
	if ids, err := identity.Of(cert.Certificate); err == nil && slices.Contains(ids, want) {
		return nil
	}
	return []string{fmt.Sprintf("ipam.registry.tls: the certificate %s in %s has no SAN URI %s: a registry rejects it unless its ipam.registry.tls.roles names it (onlinkctl pki issue --role node --name %s)",
		cert.Subject, cert.File, want, node)}
}

// List returns the certificates.
func (s *Set) List() (out []state.Certificate) {
	for section, k := range s.all() {
		for _, c := range k.Certificates() {
			out = append(out, state.Certificate{
				Section: section, File: c.File, Subject: c.Subject.String(), Authority: c.CA, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
			})
		}
	}
	return out
}
