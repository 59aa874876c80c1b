package bgp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"onlink/bgp/policy"
)

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Config)
		want string // part of the error; "" means valid
	}{
		{"valid", func(*Config) {}, ""},
		{"no AS", func(c *Config) { c.ASN = 0 }, "ASN"},
		{"AS_TRANS", func(c *Config) { c.ASN = 23456 }, "ASN"},
		{"router ID v6", func(c *Config) { c.RouterID = addr("fd00::1") }, "RouterID"},
		{"cluster ID zero", func(c *Config) { c.ClusterID = addr("0.0.0.0") }, "ClusterID"},
		{"no node address", func(c *Config) { c.NodeAddress = netip.Addr{} }, "NodeAddress"},
		{"v6 node address as v4", func(c *Config) { c.NodeAddress = addr("fd00::1") }, "NodeAddress"},
		{"zone in node address", func(c *Config) { c.NodeAddress6 = addr("fe80::1%eth0") }, "NodeAddress6"},
		{"pool with host bits", func(c *Config) { c.Pools = []policy.Pool{{Prefix: prefix("10.244.0.1/16")}} }, "10.244.0.0/16"},
		{"restart time", func(c *Config) { c.RestartTime = 2 * time.Hour }, "RestartTime"},
		{"deferral", func(c *Config) { c.Deferral = -1 }, "Deferral"},
		{"listen address", func(c *Config) { c.ListenAddresses = make([]netip.Addr, 1) }, "ListenAddresses"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig(t, "127.20.0.1")
			tt.edit(&c)
			_, err := New(c)
			checkConfigError(t, err, tt.want)
		})
	}
}

func TestPeerValidate(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Peer)
		want string
	}{
		{"valid", func(*Peer) {}, ""},
		{"no name", func(p *Peer) { p.Name = "" }, "Name"},
		{"no address", func(p *Peer) { p.Address = netip.Addr{} }, "Address"},
		{"foreign AS as ibgp", func(p *Peer) { p.ASN = 65001 }, "ebgp"},
		{"own AS as ebgp", func(p *Peer) { p.Role = EBGP }, "our own"},
		{"hold time zero point five", func(p *Peer) { p.HoldTime = time.Second / 2 }, "HoldTime"},
		{"hold time 2", func(p *Peer) { p.HoldTime = 2 * time.Second }, "HoldTime"},
		{"keepalive beyond hold", func(p *Peer) { p.HoldTime, p.Keepalive = 9*time.Second, 9*time.Second }, "Keepalive"},
		{"hold 9 alone", func(p *Peer) { p.HoldTime = 9 * time.Second }, ""},
		{"password", func(p *Peer) { p.Password = strings.Repeat("x", 81) }, "Password"},
		{"ttl and multihop", func(p *Peer) { p.TTLSecurity, p.Multihop = 1, 2 }, "exclude"},
		{"family", func(p *Peer) { p.Families = []Family{7} }, "Families"},
		{"accept with host bits", func(p *Peer) { p.Import.Accept = []policy.PrefixRule{{Prefix: prefix("10.1.1.1/8")}} }, "10.0.0.0/8"},
		{"accept nothing", func(p *Peer) { p.Import.Accept = []policy.PrefixRule{{Prefix: prefix("10.0.0.0/8"), Ge: 24, Le: 16}} }, "match nothing"},
		{"community", func(p *Peer) { p.Export.Communities = []string{"64512:99999"} }, "community"},
		{"community words", func(p *Peer) { p.Export.Communities = []string{"no-export"} }, "community"},
		{"community of one part", func(p *Peer) { p.Export.Communities = []string{"5"} }, "community"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(testConfig(t, "127.20.0.1"))
			if err != nil {
				t.Fatal(err)
			}
			p := to("127.20.0.2", IBGP)
			tt.edit(&p)
			checkConfigError(t, s.SetPeers(t.Context(), []Peer{p}, nil), tt.want)
		})
	}
	t.Run("same address twice", func(t *testing.T) {
		s, err := New(testConfig(t, "127.20.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		p, q := to("127.20.0.2", IBGP), to("127.20.0.2", IBGP)
		q.Name = "other"
		checkConfigError(t, s.SetPeers(t.Context(), []Peer{p, q}, nil), "already peer")
	})
}

func TestOriginValidate(t *testing.T) {
	tests := []struct {
		name    string
		origins []Origin
		want    string
	}{
		{"valid", []Origin{{Prefix: prefix("10.244.0.0/26"), Communities: []string{"1:2", "1:2:3"}}}, ""},
		{"default route", []Origin{{Prefix: prefix("0.0.0.0/0")}}, "default route"},
		{"no next hop of its family", []Origin{{Prefix: prefix("fd00::/64")}}, "NodeAddress6"},
		{"twice", []Origin{{Prefix: prefix("10.0.0.0/8")}, {Prefix: prefix("10.0.0.0/8")}}, "twice"},
		{"host bits", []Origin{{Prefix: prefix("10.0.0.1/8")}}, "host bits"},
		{"empty", []Origin{{}}, "invalid prefix"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(testConfig(t, "127.20.0.1"))
			if err != nil {
				t.Fatal(err)
			}
			checkConfigError(t, s.SetOrigins(t.Context(), tt.origins), tt.want)
		})
	}
}

func checkConfigError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("got %v, want no error", err)
		}
		return
	}
	if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line of ErrConfig with %q", err, want)
	}
}
