package admin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"onlink/agent/explain"
	"onlink/internal/identity"
	"onlink/internal/tlsfiles"
	onlinkv1 "onlink/proto/v1"
)

// asker asks at the port of a listener.
func asker(lis net.Listener, k *tlsfiles.Keeper) Asker {
	return Asker{Port: func() netip.AddrPort { return netip.MustParseAddrPort(lis.Addr().String()) }, TLS: func() *tlsfiles.Keeper { return k }}
}

// listen returns a listener on loopback.
func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return lis
}

// TestAsk asks an agent with a node's certificate, and what does not answer: every case
// is told apart, because only a silent agent is a finding.
func TestAsk(t *testing.T) {
	t.Parallel()
	a, lis := newAuthority(t), listen(t)
	s := (&bed{}).server(t)
	served(t, s, lis, Door{TLS: a.files(t, identity.Identity{Role: identity.Node, Name: "n1"}).Server()})
	mine := a.files(t, node)
	loopback, q := []netip.Addr{ip("fd00::1"), ip("127.0.0.1")}, explain.Inquiry{Question: explain.Question{To: ip("10.244.1.5")}, Node: "n2"}

	f, err := asker(lis, mine).Ask(t.Context(), loopback, q)
	if err != nil || f.Node != "n1" || len(f.Steps) != 1 || f.Steps[0].Cause != explain.PathAbsent || f.Steps[0].State != explain.Broken {
		t.Errorf("got %+v, %v; want the path absent on n1", f, err)
	}
	if _, err := (Asker{Port: func() netip.AddrPort { return netip.AddrPort{} }, TLS: func() *tlsfiles.Keeper { return mine }}).Ask(t.Context(), loopback, q); !errors.Is(err, explain.ErrAgentsOff) {
		t.Errorf("without a port: %v", err)
	}
	if _, err := asker(lis, nil).Ask(t.Context(), loopback, q); !errors.Is(err, explain.ErrAgentsOff) {
		t.Errorf("without files: %v", err)
	}

	closed, mute := listen(t), listen(t)
	closed.Close()
	silent := (*explain.SilentError)(nil)
	if _, err := asker(closed, mine).Ask(t.Context(), loopback, q); !errors.As(err, &silent) || !silent.Refused || silent.At.String() != closed.Addr().String() {
		t.Errorf("nothing listens: %v", err)
	}
	if _, err := asker(mute, mine).Ask(t.Context(), loopback, q); !errors.As(err, &silent) || silent.Refused {
		t.Errorf("a process that does not accept: %v", err)
	}
	for _, c := range []struct {
		name, want string
		files      *tlsfiles.Keeper
		at         netip.Addr
	}{
		{"a certificate of another authority", "its certificate is not accepted", newAuthority(t).files(t, node), ip("127.0.0.1")},
		{"an address that is not in its certificate", "onlinkctl pki issue --ip", mine, ip("127.0.0.2")},
	} {
		one := asker(lis, c.files)
		if c.at != ip("127.0.0.1") {
			other, err := net.Listen("tcp", net.JoinHostPort(c.at.String(), "0"))
			if err != nil {
				t.Fatal(err)
			}
			served(t, s, other, Door{TLS: mine.Server()})
			one = asker(other, c.files)
		}
		if _, err := one.Ask(t.Context(), []netip.Addr{c.at}, q); err == nil || errors.As(err, &silent) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestExplainHere: the fields of a question that cannot be read are named, and a
// question is the same after the wire.
func TestExplainHere(t *testing.T) {
	t.Parallel()
	s := (&bed{}).server(t)
	for _, c := range []struct {
		name string
		req  *onlinkv1.ExplainHereRequest
	}{
		{"address", &onlinkv1.ExplainHereRequest{}},
		{"address", &onlinkv1.ExplainHereRequest{Address: "10.244.1"}},
		{"from", &onlinkv1.ExplainHereRequest{Address: "10.244.1.5", From: "x"}},
		{"from", &onlinkv1.ExplainHereRequest{Address: "10.244.1.5", From: "fd44::1"}},
		{"tunnel", &onlinkv1.ExplainHereRequest{Address: "10.244.1.5", Tunnel: "x"}},
		{"format", &onlinkv1.ExplainHereRequest{Address: "10.244.1.5", Format: strings.Repeat("x", maxFormat+1)}},
		{"addresses", &onlinkv1.ExplainHereRequest{Address: "10.244.1.5", Addresses: []string{""}}},
		{"peers", &onlinkv1.ExplainHereRequest{Address: "10.244.1.5", Peers: slices.Repeat([]string{"10.57.0.1"}, maxAddresses+1)}},
		{"owner_addresses", &onlinkv1.ExplainHereRequest{Address: "10.244.1.5", OwnerAddresses: []string{"n2"}}},
	} {
		_, err := nodes{s: s}.ExplainHere(context.Background(), c.req)
		wantCode(t, err, codes.InvalidArgument)
		if err != nil && !strings.Contains(err.Error(), c.name+": ") {
			t.Errorf("%v does not name %s", err, c.name)
		}
	}
	q := explain.Inquiry{
		Question: explain.Question{From: ip("10.244.1.5"), To: ip("10.244.2.7")}, Node: "n1", Addresses: []netip.Addr{ip("10.57.0.11"), ip("fd57::11")},
		Peers: []netip.Addr{ip("10.57.0.10")}, Tunnel: ip("10.57.0.11"), Format: "vxlan, VNI 4096, UDP port 4789", Owner: "n2", OwnerAddresses: []netip.Addr{ip("10.57.0.12")},
	}
	got, err := inquiryOf(inquiryToWire(&q))
	if err != nil || got.Question != q.Question || got.Node != q.Node || got.Tunnel != q.Tunnel || got.Format != q.Format || got.Owner != q.Owner ||
		!slices.Equal(got.Addresses, q.Addresses) || !slices.Equal(got.Peers, q.Peers) || !slices.Equal(got.OwnerAddresses, q.OwnerAddresses) {
		t.Errorf("got %+v, %v; want %+v", got, err, q)
	}
}
