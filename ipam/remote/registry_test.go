package remote

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"onlink/ipam"
	"onlink/ipam/ipamtest"
	onlinkv1 "onlink/proto/v1"
)

// TestSiegeRemote restarts the agent that serves the registry, with and
// without its file, while eight nodes use it.
func TestSiegeRemote(t *testing.T) {
	b := ipamtest.NewBolt(t)
	path := filepath.Join(t.TempDir(), "r.sock")
	var srv *grpc.Server
	var ended chan error
	serve := func(t *testing.T) {
		t.Helper()
		lis, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		srv = grpc.NewServer()
		onlinkv1.RegisterRegistryServer(srv, &service{reg: b})
		ended = make(chan error, 1)
		go func(srv *grpc.Server, ended chan<- error) { ended <- srv.Serve(lis) }(srv, ended)
	}
	serve(t)
	t.Cleanup(func() { srv.Stop() })
	restart := func(trouble func(*testing.T)) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			srv.Stop()
			if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // the socket is gone
				t.Error(err)
			}
			trouble(t)
			serve(t)
		}
	}
	ipamtest.Siege(t, ipamtest.Fort{
		Open: func(t *testing.T, _ int) ipam.Registry {
			t.Helper()
			return open(t, path)
		},
		Trouble: []func(*testing.T){restart(b.Restart), restart(b.Lose), ipamtest.Pause},
		Pools:   []ipam.Pool{{Name: "p", CIDR: netip.MustParsePrefix("10.0.0.0/19"), BlockSize: 27}},
	})
}

// TestRemoteRegistry holds the registry of another agent, seen over gRPC, to
// the same contract as the embedded one behind it: every error must survive
// the wire.
func TestRemoteRegistry(t *testing.T) {
	ipamtest.RegistryContract(t, func(t *testing.T) ipam.Registry {
		store, err := ipam.OpenStore(filepath.Join(t.TempDir(), "onlink.db"), ipam.StoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		path := filepath.Join(t.TempDir(), "r.sock")
		lis, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		srv := NewServer(ServerConfig{
			Registry: store.BoltRegistry().WithSettle(time.Nanosecond), Audit: noted(store), Log: slog.New(slog.DiscardHandler),
		})
		go func() {
			if err := srv.Serve(lis); err != nil {
				t.Error(err)
			}
		}()
		t.Cleanup(srv.Stop)
		return open(t, path)
	})
}

// open returns the registry behind a unix socket.
func open(t *testing.T, path string) *Registry {
	t.Helper()
	reg, err := Open(ClientConfig{Target: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	return reg
}

// noted is an audit in the database, as the agent's.
func noted(store *ipam.Store) Audit {
	return func(_ context.Context, action, target string, deed func() ([]ipam.Block, error)) ([]ipam.Block, error) {
		n, err := store.BeginAudit(ipam.AuditEntry{Began: time.Now(), Action: action, Target: target})
		if err != nil {
			return nil, err
		}
		taken, err := deed()
		return taken, errors.Join(err, store.EndAudit(n, taken, err))
	}
}
