package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// certificate has the URIs, whatever they are.
func certificate(t *testing.T, name string, uris ...string) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: []string{"net"}}, Raw: []byte(name)}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	return c
}

// TestOf: the URIs of our scheme are identities; a mistake in one of them leaves none.
func TestOf(t *testing.T) {
	for _, c := range []struct {
		name string
		uris []string
		want []Identity
		err  string
	}{
		{"none", nil, nil, ""},
		{"of others", []string{"spiffe://cluster/ns/a"}, nil, ""},
		{"a node", []string{"onlink://node/r1n1.example.com"}, []Identity{{Node, "r1n1.example.com"}}, ""},
		{"two", []string{"onlink://node/a", "spiffe://x/y", "onlink://operator/a"}, []Identity{{Node, "a"}, {Operator, "a"}}, ""},
		{"twice the same", []string{"onlink://viewer/a", "onlink://viewer/a"}, []Identity{{Viewer, "a"}}, ""},
		{"a name with a colon", []string{"onlink://viewer/a:b"}, []Identity{{Viewer, "a:b"}}, ""},
		{"unknown role", []string{"onlink://node/a", "onlink://admin/a"}, nil, `unknown role "admin"; use viewer, operator or node`},
		{"a role in capitals", []string{"onlink://Node/a"}, nil, `unknown role "Node"`},
		{"without a name", []string{"onlink://node/"}, nil, "the name is empty"},
		{"without a path", []string{"onlink://node"}, nil, "is not onlink://ROLE/NAME"},
		{"a longer path", []string{"onlink://node/a/b"}, nil, "a slash"},
		{"an escaped slash", []string{"onlink://node/a%2Fb"}, nil, "a slash"},
		{"a query", []string{"onlink://node/a?x=y"}, nil, "is not onlink://ROLE/NAME"},
		{"a user", []string{"onlink://x@node/a"}, nil, "is not onlink://ROLE/NAME"},
		{"a port", []string{"onlink://node:1/a"}, nil, "is not onlink://ROLE/NAME"},
		{"opaque", []string{"onlink:node/a"}, nil, "is not onlink://ROLE/NAME"},
		{"a line feed", []string{"onlink://node/a%0Ab"}, nil, "unprintable"},
		{"long", []string{"onlink://node/" + strings.Repeat("a", 254)}, nil, "254 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Of(certificate(t, "x", c.uris...))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || got != nil {
					t.Errorf("got %v, %v; want %q", got, err, c.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %v, %v; want %v", got, err, c.want)
			}
		})
	}
}

// TestURI: an identity that New accepts is the same after it was written.
func TestURI(t *testing.T) {
	for _, name := range []string{"r1n1", "a%2fb", "ünï", "a?b#c", "a@b:c", "%", "[::1]"} {
		id, err := New(Node, name)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(id.String())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fromURI(u); err != nil || got != id {
			t.Errorf("%s is read as %v, %v", id, got, err)
		}
	}
	for _, name := range []string{"", "a b", "a/b", "a\x00", "\xff", "a\u202eb"} {
		if id, err := New(Node, name); err == nil {
			t.Errorf("%q is accepted: %v", name, id)
		}
	}
	if _, err := New("root", "a"); err == nil {
		t.Error("an unknown role is accepted")
	}
}

// TestMap: the map's identities replace the certificate's own.
func TestMap(t *testing.T) {
	old := certificate(t, "old")
	m := Map{
		{Subject: "CN=old,O=net", Identity: Identity{Node, "old"}},
		{Subject: "CN=old", Identity: Identity{Operator, "wrong"}}, // a part of a subject is none
		{Fingerprint: Fingerprint(certificate(t, "alice")), Identity: Identity{Viewer, "alice"}},
	}
	for _, c := range []struct {
		cert *x509.Certificate
		want []Identity
	}{
		{old, []Identity{{Node, "old"}}},
		{certificate(t, "alice", "onlink://operator/alice"), []Identity{{Viewer, "alice"}}},
		{certificate(t, "new", "onlink://node/new"), []Identity{{Node, "new"}}},
		{certificate(t, "stranger"), nil},
	} {
		if got, err := m.Of(c.cert); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, %v; want %v", c.cert.Subject, got, err, c.want)
		}
	}
}

// TestFingerprint: the forms in which other tools print one are read.
func TestFingerprint(t *testing.T) {
	plain := Fingerprint(certificate(t, "x"))
	var colons []string
	for i := 0; i < len(plain); i += 2 {
		colons = append(colons, strings.ToUpper(plain[i:i+2]))
	}
	for _, s := range []string{plain, strings.Join(colons, ":")} {
		if got, err := ParseFingerprint(s); err != nil || got != plain {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", plain[2:], plain + "00", "g" + plain[1:]} {
		if _, err := ParseFingerprint(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

// TestRoles: words for messages, and what Has finds.
func TestRoles(t *testing.T) {
	for _, c := range []struct {
		list []Role
		want string
	}{{nil, ""}, {[]Role{Operator}, "operator"}, {[]Role{Viewer, Operator}, "viewer or operator"}, {Roles(), "viewer, operator or node"}} {
		if got := Either(c.list); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	list := []Identity{{Node, "a"}, {Viewer, "b"}}
	if !Has(list, Operator, Viewer) || Has(list, Operator) || Has(nil, Viewer) {
		t.Error("Has finds a role that is not there, or does not find one")
	}
	if got := Join(list); got != "onlink://node/a, onlink://viewer/b" {
		t.Error(got)
	}
}
