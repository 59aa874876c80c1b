package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/ipam"
	"onlink/ipam/remote"
	onlinkv1 "onlink/proto/v1"
)

// TestProtocol drives an agent as a cluster's process does, by its protocols alone:
// the registry is this process, behind a unix socket that appears after the agent
// and is made anew; namespaces choose pools; keys come with the configuration, whose
// end is held until it is confirmed; and the status stream tells of it.
func TestProtocol(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("protocol"))
	n := l.Node("r1n1")
	sock := filepath.Join(t.TempDir(), "r.sock")
	n.Edit = func(c *conf.Config) {
		c.IPAM.Registry = conf.Registry{Kind: "grpc", Address: []string{"unix://" + sock}, Assert: "1s"}
		c.Pools = append(c.Pools, conf.Pool{Name: "shop", CIDR: "10.77.0.0/16", Tunnel: "none", Manual: true})
	}
	must(t, l.StartToRs(ctx))
	must(t, n.Start(ctx))
	must(t, lab.Eventually(ctx, labtest.Patience, "the agent names the socket of its registry", func() error {
		if !strings.Contains(n.Logs(100), sock) {
			return errors.New("it does not")
		}
		return nil
	}))
	stop := serveRegistry(t, sock)
	must(t, n.WaitReady(ctx))
	admin, err := n.Admin()
	must(t, err)
	watch, err := admin.WatchStatus(ctx, &onlinkv1.WatchStatusRequest{})
	must(t, err)
	first, err := watch.Recv()
	must(t, err)
	if first.GetNode() != n.Name || first.GetConfigDigest() == "" || len(first.GetHeld()) != 0 {
		t.Errorf("the first status: %v", first)
	}

	stop()
	stop = serveRegistry(t, sock) // the first address of a pool needs it
	defer func() { stop() }()
	_, err = admin.SetNamespaces(ctx, &onlinkv1.SetNamespacesRequest{Namespaces: []*onlinkv1.NamespacePools{{Namespace: "shop", Pools: []string{"shop"}}}})
	must(t, err)
	addIn := func(namespace string, pool netip.Prefix) {
		t.Helper()
		p, err := n.NewPod(namespace)
		must(t, err)
		w := labtest.NewNetwork(t, n, "1.0.0", labtest.Onlink(n))
		rt := w.Runtime(p, nil)
		rt.Args = [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", namespace}, {"K8S_POD_NAME", "web"}}
		var addrs []netip.Addr
		must(t, lab.Eventually(ctx, labtest.Patience, "an address from "+pool.String(), func() error {
			addrs, err = w.Add(ctx, rt)
			return err
		}))
		if len(addrs) != 1 || !pool.Contains(addrs[0]) {
			t.Errorf("a pod of namespace %s has %v, want one of %v", namespace, addrs, pool)
		}
		must(t, w.Del(ctx, rt))
	}
	addIn("shop", netip.MustParsePrefix("10.77.0.0/16"))
	addIn("other", l.Spec.Pool.CIDR)
	out, err := n.Ctl(ctx, "namespaces")
	if err != nil || !strings.Contains(out.Stdout, "shop") {
		t.Errorf("onlinkctl namespaces: %v, %q", err, out.Stdout)
	}

	guardConfig(ctx, t, n, admin, watch)
}

// guardConfig changes the configuration with keys, takes every session away, and
// confirms that.
func guardConfig(ctx context.Context, t *testing.T, n *lab.Node, admin onlinkv1.AdminClient, watch interface {
	Recv() (*onlinkv1.Status, error)
},
) {
	t.Helper()
	key := filepath.Join(n.StateDir(), "keys", "phantom")
	change := func(edit func(c *conf.Config), keys ...*onlinkv1.KeyFile) *onlinkv1.ChangeConfigReply {
		t.Helper()
		c := n.Edited()
		edit(c)
		text, err := c.YAML()
		must(t, err)
		rep, err := admin.ChangeConfig(ctx, &onlinkv1.ChangeConfigRequest{Text: string(text), Guard: true, Keys: keys})
		must(t, err)
		return rep
	}
	change(func(c *conf.Config) {
		c.BGP.Peers = append(c.BGP.Peers, &conf.Peer{Name: "phantom", Address: "192.0.2.9", ASN: 65009, Multihop: 2, PasswordFile: key, Passive: true})
	}, &onlinkv1.KeyFile{Name: "phantom", Content: []byte("secret\n")})
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
	change(func(*conf.Config) {})
	if labtest.Exists(key) {
		t.Error("a key that no configuration names is left")
	}

	held := change(func(c *conf.Config) { c.BGP.Peers = nil }).GetHeld()
	if held == nil || !strings.Contains(held.GetReason(), "every session") {
		t.Fatalf("a configuration without peers is not held: %v", held)
	}
	for {
		st, err := watch.Recv()
		must(t, err)
		if len(st.GetHeld()) == 1 {
			if st.GetHeld()[0].GetDigest() != held.GetDigest() || st.GetPeersEstablished() == 0 {
				t.Errorf("held %v with %d sessions, want %s and the session", st.GetHeld(), st.GetPeersEstablished(), held.GetDigest())
			}
			break
		}
	}
	if out, err := n.Ctl(ctx, "config", "confirm", held.GetDigest()); err != nil {
		t.Fatalf("confirm: %v, %s", err, out.Stderr)
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "no peer and no held change", func() error {
		st, err := n.Status(ctx)
		if err == nil && (st.GetPeersTotal() != 0 || len(st.GetHeld()) != 0) {
			err = fmt.Errorf("%d peers, held %v", st.GetPeersTotal(), st.GetHeld())
		}
		return err
	}))
}

// serveRegistry serves a registry of this process on a unix socket, whose blocks
// outlive stop.
func serveRegistry(t *testing.T, sock string) (stop func()) {
	t.Helper()
	store, err := ipam.OpenStore(filepath.Join(filepath.Dir(sock), "registry.db"), ipam.StoreOptions{})
	must(t, err)
	lis, err := net.Listen("unix", sock)
	must(t, err)
	srv := remote.NewServer(remote.ServerConfig{
		Registry: store.BoltRegistry().WithSettle(time.Nanosecond), Log: slog.New(slog.DiscardHandler),
	})
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	return func() {
		srv.Stop()
		if err := errors.Join(<-ended, store.Close()); err != nil {
			t.Error(err)
		}
	}
}
