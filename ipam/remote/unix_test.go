package remote

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"onlink/ipam"
	"onlink/ipam/ipamtest"
	onlinkv1 "onlink/proto/v1"
)

// TestUnixSocket: a registry behind a unix socket is used soon after its socket
// appears, and again after it was removed and made anew; an error names it.
func TestUnixSocket(t *testing.T) {
	b := ipamtest.NewBolt(t)
	path := filepath.Join(t.TempDir(), "r.sock")
	reg := open(t, path)
	_, err := reg.List(t.Context(), "n1")
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("without a socket: %v; want an error that names %s", err, path)
	}
	for range 2 {
		lis, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer()
		onlinkv1.RegisterRegistryServer(srv, &service{reg: b})
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(lis) }()
		began := time.Now()
		soon(t, func(ctx context.Context) error { _, err := reg.List(ctx, "n1"); return err })
		t.Logf("answered %v after the socket was there", time.Since(began))
		srv.Stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if _, err = reg.List(t.Context(), "n1"); err == nil || !strings.Contains(err.Error(), path) {
			t.Fatalf("with the socket gone: %v; want an error that names %s", err, path)
		}
	}
}

// soon calls until it succeeds, for at most ten seconds.
func soon(t *testing.T, call func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := call(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-again.C:
		}
	}
}

// narrow is a registry that lists each node only its own blocks.
type narrow struct{ ipam.Registry }

func (n narrow) List(ctx context.Context, node string) ([]ipam.Block, error) {
	if node == "" {
		return nil, ipam.ErrUnlisted
	}
	return n.Registry.List(ctx, node)
}

// TestUnlisted: a registry that does not list all blocks, nor nodes, does so over
// the wire too, and serves the rest.
func TestUnlisted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.sock")
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	onlinkv1.RegisterRegistryServer(srv, &service{reg: narrow{ipamtest.NewBolt(t)}})
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	reg := open(t, path)
	if _, err := reg.List(t.Context(), ""); !errors.Is(err, ipam.ErrUnlisted) {
		t.Errorf("list of all: %v", err)
	}
	if nodes, err := reg.Nodes(t.Context()); err != nil || nodes != nil {
		t.Errorf("nodes: %v, %v", nodes, err)
	}
	claimed, err := reg.Claim(t.Context(), ipam.ClaimRequest{
		Caller: ipam.Caller{Node: "n1", Instance: "i", Address: netip.MustParseAddr("192.0.2.1")},
		Pool:   "p", PoolCIDR: netip.MustParsePrefix("10.0.0.0/16"), BlockSize: 26,
	})
	if err != nil {
		t.Fatal(err)
	}
	if own, err := reg.List(t.Context(), "n1"); err != nil || len(own) != 1 || own[0] != claimed {
		t.Errorf("own blocks: %v, %v", own, err)
	}
}
