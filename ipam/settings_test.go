package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"onlink/internal/strictyaml"
	"onlink/internal/tlsfiles"
)

// readSettings reads a section; the error has the mistakes.
func readSettings(text string) (Settings, error) {
	s := DefaultSettings()
	d := strictyaml.Parse("f", []byte("ipam: "+text), func(v strictyaml.Value) { v.Mapping(strictyaml.Fields{"ipam": s.Read}) })
	s.Validate("ipam", d)
	return s, d.Err()
}

// TestSettings: what each kind of registry is given.
func TestSettings(t *testing.T) {
	t.Parallel()
	registry := func(change func(*RegistrySettings)) Settings {
		s := DefaultSettings()
		change(&s.Registry)
		return s
	}
	files := tlsfiles.Files{Cert: "/c", Key: "/k", CA: "/a"}
	for _, c := range []struct {
		text string
		want Settings
	}{
		{"", DefaultSettings()},
		{"{cooldown: 0s, sticky: 8760h}", Settings{Registry: DefaultSettings().Registry, Sticky: 365 * day}},
		{"{registry: {listen: '10.0.0.1:1', tls: {cert: /c, key: /k, ca: /a}, assert: 10m}}", registry(func(r *RegistrySettings) {
			r.Listen, r.TLS, r.Assert = netip.MustParseAddrPort("10.0.0.1:1"), files, 10*time.Minute
		})},
		{"{registry: {kind: grpc, address: ['a:1', 'b:1'], insecure: true}}", registry(func(r *RegistrySettings) {
			r.Kind, r.Addresses, r.Insecure = RegistryGRPC, []string{"a:1", "b:1"}, true
		})},
		{"{registry: {kind: grpc, address: 'unix:///run/onlink-kube/registry.sock'}}", registry(func(r *RegistrySettings) {
			r.Kind, r.Addresses = RegistryGRPC, []string{"unix:///run/onlink-kube/registry.sock"}
		})},
		{"{registry: {kind: etcd, address: ['a:1', 'b:1', 'c:1'], tls: {ca: /a}, user: u, passwordFile: /p, prefix: /x/}}", registry(func(r *RegistrySettings) {
			r.Kind, r.Addresses, r.TLS.CA, r.User, r.PasswordFile, r.Prefix = RegistryEtcd, []string{"a:1", "b:1", "c:1"}, "/a", "u", "/p", "/x/"
		})},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			got, err := readSettings(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSettingsMistakes: what contradicts in the section, once. The mistakes of
// the section in a whole file are those of agent/config.
func TestSettingsMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want []string // fields
	}{
		{"{registry: {kind: etc, address: 'a:1'}}", []string{"kind"}}, // what the address is for depends on it
		{"{registry: {kind: etc, tls: {cert: /c}}}", []string{"kind", "tls.ca", "tls.key"}},
		{"{registry: {kind: grpc}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'unix://run/r.sock'}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'unix:///'}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'unix://'}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'unix:///run/../r.sock'}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'unix:///run/r.sock?x'}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'unix:///" + strings.Repeat("x", maxSocketPath) + "'}}", []string{"address"}},
		{"{registry: {kind: grpc, address: ['unix:///r.sock', 'a:1']}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'unix:///r.sock', insecure: true}}", []string{"insecure"}},
		{"{registry: {kind: grpc, address: 'unix:///r.sock', tls: {cert: /c, key: /k, ca: /a}}}", []string{"tls"}},
		{"{registry: {kind: etcd, address: 'unix:///r.sock', insecure: true}}", []string{"address"}},
		{"{registry: {address: 'unix:///r.sock', insecure: true}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'a:1', insecure: true, listen: '10.0.0.1:1'}}", []string{"listen"}},
		{"{registry: {kind: grpc, address: ['a:1', 'b:1', 'c:1'], insecure: true}}", []string{"address"}},
		{"{registry: {kind: grpc, address: 'a:1'}}", []string{"tls"}},
		{"{registry: {address: 'a:1', insecure: true}}", []string{"address"}},
		{"{registry: {listen: '10.0.0.1:1', address: ['a:1', 'b:1'], insecure: true}}", []string{"address"}},
		{"{registry: {listen: x, tls: {cert: /c, key: /k, ca: /a}}}", []string{"listen"}}, // and not that tls has no use
		{"{registry: {listen: '10.0.0.1:1', insecure: true, tls: {cert: /c, key: /k, ca: /a}}}", []string{"insecure"}},
		{"{registry: {tls: {cert: /c, key: /k, ca: /a}}}", []string{"tls"}},
		{"{registry: {kind: grpc, address: 'a:1', tls: {cert: /c, key: /k, ca: /a, roles: [{subject: CN=a, role: node, name: a}]}}}", []string{"tls.roles"}},
		{"{registry: {kind: etcd, address: 'a:1', tls: {ca: /a, roles: [{subject: CN=a, role: viewer}]}}}", []string{"tls.roles"}},
		{"{registry: {kind: etcd, insecure: true}}", []string{"address"}},
		{"{registry: {kind: etcd, address: 'a:1', insecure: true, user: u, prefix: x}}", []string{"prefix", "user"}},
		{"{registry: {user: u}}", []string{"user"}},
		{"{registry: {assert: 0s}, cooldown: 25h, sticky: 8761h}", []string{"assert", "ipam.cooldown", "ipam.sticky"}},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			_, err := readSettings(c.text)
			list, _ := err.(strictyaml.Errors) //nolint:errorlint // Err documents this type
			var got []string
			for _, e := range list {
				got = append(got, strings.TrimPrefix(e.Field, "ipam.registry."))
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("mistakes in %q, want %q:\n%v", got, c.want, err)
			}
		})
	}
}

// TestRegistrySettings: what follows from the settings.
func TestRegistrySettings(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		name          string
		r             RegistrySettings
		served, split bool
		endpoints     []netip.AddrPort
		note          string // how the only one begins; "": none
	}{
		{"in the own database", RegistrySettings{Kind: RegistryBolt}, false, false, []netip.AddrPort{{}}, ""},
		{
			"served",
			RegistrySettings{Kind: RegistryBolt, Listen: at("10.0.0.1:1"), Insecure: true},
			true, false,
			[]netip.AddrPort{at("10.0.0.1:1")},
			"ipam.registry.insecure: the registry on 10.0.0.1:1 has no TLS",
		},
		{
			"one of two",
			RegistrySettings{Kind: RegistryBolt, Listen: at("10.0.0.1:1"), Addresses: []string{"10.0.0.1:1", "10.0.0.2:1"}},
			true, true,
			[]netip.AddrPort{at("10.0.0.1:1"), at("10.0.0.1:1"), at("10.0.0.2:1")},
			"",
		},
		{
			"of others, one by its name",
			RegistrySettings{Kind: RegistryGRPC, Addresses: []string{"10.0.0.2:1", "registry:1"}, Insecure: true},
			false, true,
			[]netip.AddrPort{{}, at("10.0.0.2:1")},
			"ipam.registry.insecure: the registry at [10.0.0.2:1 registry:1] is called without TLS",
		},
		{"etcd's own agents are no agents", RegistrySettings{Kind: RegistryEtcd, Addresses: []string{"10.0.0.2:1", "10.0.0.3:1"}}, false, false, []netip.AddrPort{{}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.r.Served() != c.served || c.r.Split() != c.split || !slices.Equal(c.r.Endpoints(), c.endpoints) {
				t.Errorf("served %v, split %v, endpoints %v", c.r.Served(), c.r.Split(), c.r.Endpoints())
			}
			notes := c.r.Notes()
			if len(notes) > 1 || (len(notes) == 1) != (c.note != "") || len(notes) == 1 && !strings.HasPrefix(notes[0], c.note) {
				t.Errorf("notes %q, want %q", notes, c.note)
			}
		})
	}
	if s := DefaultSettings().Registry; s.Settle() != 2*s.Assert {
		t.Errorf("a lost registry waits %v, want two asserts of %v", s.Settle(), s.Assert)
	}
}
