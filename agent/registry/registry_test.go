package registry

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"onlink/internal/tlsfiles"
	"onlink/ipam"
)

// opened opens a registry with a database of the test's own.
func opened(t *testing.T, r ipam.RegistrySettings) (*Opened, error) {
	t.Helper()
	store, err := ipam.OpenStore(filepath.Join(t.TempDir(), "onlink.db"), ipam.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() }) //nolint:errcheck // the test has ended
	pools := []ipam.Pool{{Name: "a", CIDR: netip.MustParsePrefix("10.1.0.0/16"), BlockSize: 26}}
	return Open(Config{RegistrySettings: r, Store: store, Pools: pools, From: netip.MustParseAddr("127.0.0.1")})
}

// TestOpen: each kind is what the allocator and the API look for, and no other
// process must answer for it.
func TestOpen(t *testing.T) {
	password := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := ipam.DefaultSettings().Registry
	for _, c := range []struct {
		name   string
		change func(*ipam.RegistrySettings)
		want   string // type
		conns  int
	}{
		{"own database", func(*ipam.RegistrySettings) {}, "*ipam.BoltRegistry", 0},
		{"served", func(r *ipam.RegistrySettings) { r.Listen = netip.MustParseAddrPort("127.0.0.1:1") }, "*ipam.BoltRegistry", 0},
		{"another agent's", func(r *ipam.RegistrySettings) { r.Kind, r.Addresses = ipam.RegistryGRPC, []string{"127.0.0.1:1"} }, "*remote.Registry", 1},
		{"a process of this machine", func(r *ipam.RegistrySettings) {
			r.Kind, r.Addresses = ipam.RegistryGRPC, []string{"unix:///nonexistent/r.sock"}
		}, "*remote.Registry", 1},
		{"two others'", func(r *ipam.RegistrySettings) {
			r.Kind, r.Addresses = ipam.RegistryGRPC, []string{"127.0.0.1:1", "127.0.0.1:2"}
		}, "*ipam.Split", 2},
		{"half here", func(r *ipam.RegistrySettings) {
			r.Listen, r.Addresses = netip.MustParseAddrPort("127.0.0.1:2"), []string{"127.0.0.1:1", "127.0.0.1:2"}
		}, "*ipam.Split", 1},
		{"etcd's", func(r *ipam.RegistrySettings) {
			r.Kind, r.Addresses, r.PasswordFile = ipam.RegistryEtcd, []string{"127.0.0.1:1"}, password
		}, "*etcd.Registry", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := settings
			c.change(&r)
			o, err := opened(t, r)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%T", o.Registry); got != c.want || len(o.conns) != c.conns {
				t.Errorf("a %s with %d connections, want a %s with %d", got, len(o.conns), c.want, c.conns)
			}
			o.SetPools(nil)
			if err := o.HalfFailed(); err != nil {
				t.Errorf("failed before it was asked: %v", err)
			}
			if err := o.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHalfFailed: of two halves one is here, and the other does not answer.
func TestHalfFailed(t *testing.T) {
	r := ipam.DefaultSettings().Registry
	r.Listen, r.Addresses = netip.MustParseAddrPort("127.0.0.1:2"), []string{"127.0.0.1:2", "127.0.0.1:1"}
	o, err := opened(t, r)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close() //nolint:errcheck // a test's client
	if _, err := o.Registry.List(t.Context(), ""); err != nil {
		t.Fatalf("the half that is here: %v", err)
	}
	if err := o.HalfFailed(); err == nil {
		t.Error("nobody serves the other half, and it did not fail")
	}
}

// TestOpenRefuses: an error names the key.
func TestOpenRefuses(t *testing.T) {
	none := tlsfiles.Files{Cert: "/nonexistent", Key: "/nonexistent", CA: "/nonexistent"}
	for _, c := range []struct {
		name string
		r    ipam.RegistrySettings
		want string
	}{
		{"TLS", ipam.RegistrySettings{Kind: ipam.RegistryGRPC, Addresses: []string{"a:1"}, TLS: none}, "ipam.registry.tls: "},
		{"etcd's TLS", ipam.RegistrySettings{Kind: ipam.RegistryEtcd, Addresses: []string{"a:1"}, TLS: none}, "ipam.registry.tls: "},
		{"password", ipam.RegistrySettings{Kind: ipam.RegistryEtcd, Addresses: []string{"a:1"}, PasswordFile: "/nonexistent"}, "ipam.registry.passwordFile: "},
		{"address", ipam.RegistrySettings{Kind: ipam.RegistryGRPC, Addresses: []string{"a:1", "%zz:1"}}, "ipam.registry.address: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := opened(t, c.r); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
