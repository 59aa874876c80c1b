package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"onlink/agent/dataplane"
	"onlink/agent/endpoint"
	"onlink/agent/logs"
	"onlink/agent/registry"
	"onlink/agent/state"
	"onlink/ipam"
	"onlink/ipam/remote"
)

// freePort returns a TCP port without a listener, and busyPort one that is taken
// until the test ends.
func freePort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	return lis.Addr().String()
}

func busyPort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return lis.Addr().String()
}

// TestListenRefuses: a socket that cannot be opened is an error at start that
// names its key.
func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	const files = "tls: {cert: /nonexistent, key: /nonexistent, ca: /nonexistent}"
	run := "paths: {run: " + dir + "}\n"
	for _, c := range []struct {
		name, yaml string
		listen     func(*agent, *endpoint.Set) error
		want       string
	}{
		{"metrics", "api: {metrics: '" + busyPort(t) + "'}", (*agent).listenMetrics, "api.metrics: "},
		{"admin", "api: {admin: {socket: /dev/null/x.sock}}", (*agent).listenAdmin, "api.admin.socket: "},
		{"admin's group", run + "api: {admin: {group: no-such-group}}", (*agent).listenAdmin, "api.admin.socket: "},
		{"admin's TLS", run + "api: {admin: {tcp: '" + freePort(t) + "', " + files + "}}", (*agent).listenAdmin, "api.admin.tls: "},
		{"registry", "ipam: {registry: {listen: '" + busyPort(t) + "', insecure: true}}", (*agent).listenRegistry, "ipam.registry.listen: "},
		{"admin's viewers", run + "api: {admin: {viewers: no-such-group}}", (*agent).listenAdmin, "api.admin.viewers: "},
		{"admin's group beside viewers", run + "api: {admin: {group: no-such-group, viewers: daemon}}", (*agent).listenAdmin, "api.admin.group: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := listening(t, c.yaml)
			var s endpoint.Set
			defer s.Close()
			if err := c.listen(a, &s); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// listening returns an agent that can open its sockets, except that of CNI.
func listening(t *testing.T, yaml string) *agent {
	t.Helper()
	a := inForce(t, yaml)
	store, err := ipam.OpenStore(filepath.Join(t.TempDir(), "onlink.db"), ipam.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() }) //nolint:errcheck // the test has ended
	a.logs = logs.New(io.Discard, slog.LevelInfo, false)
	a.log, a.board, a.store, a.registry = a.logs.Logger(), state.NewBoard(), store, &registry.Opened{}
	return a
}

// serve serves the agent's sockets until the test ends.
func serve(t *testing.T, s *endpoint.Set) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	s.Serve(ctx, g)
	t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestListenMetrics: health is served at the file's address, or not at all.
func TestListenMetrics(t *testing.T) {
	var off, on endpoint.Set
	if err := listening(t, "api: {metrics: off}").listenMetrics(&off); err != nil {
		t.Fatal(err)
	}
	at := freePort(t)
	a := listening(t, "api: {metrics: '"+at+"'}")
	a.learn = &learn{plane: &dataplane.Plane{}}
	if err := a.listenMetrics(&on); err != nil {
		t.Fatal(err)
	}
	serve(t, &off)
	serve(t, &on)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer rep.Body.Close()
	if text, err := io.ReadAll(rep.Body); err != nil || string(text) != "ok\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestListenRegistry: an agent serves the registry only when its file makes it,
// and another node lists the blocks there.
func TestListenRegistry(t *testing.T) {
	for name, yaml := range map[string]string{
		"in its own database": "",
		"of another agent":    "ipam: {registry: {kind: grpc, address: '10.57.0.10:4790', insecure: true}}",
	} {
		a := listening(t, yaml)
		if err := a.listenRegistry(&endpoint.Set{}); err != nil || a.served != nil {
			t.Errorf("%s: served %v, %v", name, a.served != nil, err)
		}
	}
	at := freePort(t)
	a := listening(t, "ipam: {registry: {listen: '"+at+"', insecure: true}}")
	var s endpoint.Set
	if err := a.listenRegistry(&s); err != nil {
		t.Fatal(err)
	}
	serve(t, &s)
	reg, err := remote.Open(remote.ClientConfig{Target: at})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close() //nolint:errcheck // a test's client
	blocks, err := reg.List(t.Context(), "")
	if err != nil || len(blocks) != 0 {
		t.Errorf("an empty registry lists %v, %v", blocks, err)
	}
}

// TestListenGlass: the looking glass is at the file's address, or nowhere; the address
// that is taken is an error that names the key.
func TestListenGlass(t *testing.T) {
	if err := listenGlass(listening(t, "api: {glass: '"+busyPort(t)+"'}")); err == nil || !strings.HasPrefix(err.Error(), "api.glass: ") {
		t.Errorf("a busy port: %v", err)
	}
	at := freePort(t)
	a := listening(t, "")
	if err := listenGlass(a); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.glass.Run(ctx) }()
	apply := func(yaml string) {
		t.Helper()
		for _, p := range a.parts() {
			if p.Name == "api.glass" {
				if err := p.Apply(ctx, inForce(t, yaml).current()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	get := func() (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return "", err
		}
		defer rep.Body.Close()
		text, err := io.ReadAll(rep.Body)
		return string(text), err
	}
	if _, err := get(); err == nil {
		t.Error("something listens without a key")
	}
	apply("api: {glass: '" + at + "'}")
	if text, err := get(); err != nil || !strings.Contains(text, "<title>onlink looking glass</title>") {
		t.Errorf("%q, %v", text, err)
	}
	apply("")
	if _, err := get(); err == nil {
		t.Error("something listens after the key is gone")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
