package main

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"onlink/internal/tlsfiles"
	onlinkv1 "onlink/proto/v1"
)

// remoteAgents serve with TLS, one an address, all at one port, which is returned.
func remoteAgents(t *testing.T, files tlsfiles.Files, addrs ...string) (port string) {
	t.Helper()
	keeper, err := files.Open()
	if err != nil {
		t.Fatal(err)
	}
	port = "0"
	for _, addr := range addrs {
		lis, err := net.Listen("tcp", net.JoinHostPort(addr, port))
		if err != nil {
			t.Fatal(err)
		}
		if _, port, err = net.SplitHostPort(lis.Addr().String()); err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(keeper.Server())))
		onlinkv1.RegisterAdminServer(srv, &agent{})
		onlinkv1.RegisterNodesServer(srv, &agent{})
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(lis) }()
		t.Cleanup(func() {
			srv.Stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return port
}

// TestNodes: --nodes shows the answers of all nodes in one table or object, and a line
// for each node that has none.
func TestNodes(t *testing.T) {
	t.Parallel()
	dir := authority(t)
	server := issued(t, dir, "--role", "node", "--name", "r1n1", "--ip", "127.0.0.1", "--ip", "127.0.0.2")
	bob := issued(t, dir, "--role", "viewer", "--name", "bob")
	port := remoteAgents(t, server, "127.0.0.1", "127.0.0.2")
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	local := &agent{port: uint32(number), nodes: []*onlinkv1.NodeAddresses{
		{Node: "r1n2", Addresses: []string{"127.0.0.2", "fd57::2"}},
		{Node: "r1n1", Addresses: []string{"127.0.0.1"}},
		{Node: "r1n3", Addresses: []string{"127.0.0.3"}},
		{Node: "r1n4"},
	}}
	socket := serve(t, local)
	flags := []string{"--tls-ca", bob.CA, "--tls-cert", bob.Cert, "--tls-key", bob.Key, "--socket", socket}
	for _, c := range []struct {
		name, args string
		err        error
	}{
		{"nodes_status", "status --nodes all", errUnreachable},
		{"nodes_status_json", "status --nodes r1n1,r1n4 -o json", errUnreachable},
		{"nodes_peers", "peers --nodes all", errUnreachable},
		{"nodes_peers_some", "peers --nodes r1n2", nil},
		{"nodes_peers_yaml", "peers --nodes r1n3 -o yaml", errUnreachable},
		{"nodes_routes", "routes 10.244.0.5 --nodes r1n2,r1n1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, err := onlinkctl(t.Context(), append(strings.Fields(c.args), flags...)...)
			if !errors.Is(err, c.err) || stderr != "" {
				t.Errorf("error %v, want %v; stderr %q", err, c.err, stderr)
			}
			if strings.ContainsRune(stdout, '\x1b') {
				t.Errorf("a terminal's escape code got through: %q", stdout)
			}
			golden(t, c.name, strings.ReplaceAll(stdout, ":"+port, ":9180"))
		})
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{append([]string{"status", "--nodes", "r1n1,r9n9"}, flags...), "no node has the name r9n9"},
		{append([]string{"peers", "tor1", "--nodes", "all"}, flags...), "--nodes lists the sessions of several nodes"},
		{[]string{"status", "--nodes", "all", "--socket", socket}, "--nodes needs --tls-ca"},
		{append([]string{"status", "--nodes", "all"}, append(flags[:len(flags)-1:len(flags)-1], serve(t, &agent{}))...), "has no api.admin.tcp"},
	} {
		if _, _, err := onlinkctl(t.Context(), c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
	// The agent that lists the nodes may be a remote one, whose port is that of all: it
	// lists none here.
	if out, _, err := onlinkctl(t.Context(), append([]string{"status", "--nodes", "all", "--server", "127.0.0.1:" + port}, flags[:6]...)...); err != nil || !strings.HasPrefix(out, "NODE") {
		t.Errorf("by --server: %v, %q", err, out)
	}
}
