package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onlink/cni/pod"
	"onlink/cni/pod/podtest"
	"onlink/cni/shim"
	"onlink/dump"
	"onlink/internal/ours"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain lets the test binary be the plugin too: libcni and the tests start
// it under the plugin's name, so the process boundary is the real one wherever
// the binary runs, also where there is no Go toolchain.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == PluginName {
		os.Exit(shim.Run(shim.Process{Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
	}
	os.Exit(m.Run())
}

// waitLimit bounds every wait of a test.
const waitLimit = time.Minute

// space is a network namespace with the operations of tests in it.
type space struct {
	*podtest.Space

	path string
}

// newSpace makes a network namespace with lo up.
func newSpace(t testing.TB) *space {
	t.Helper()
	s := podtest.New(t)
	return &space{s, s.Path}
}

func (s *space) do(t testing.TB, f func() error) {
	t.Helper()
	s.Do(t, f)
}

func (s *space) try(f func() error) error { return s.Try(f) }

func (s *space) close() { s.Close() }

// wiredPod is [pod.Wired]; many tests have a variable called pod.
type wiredPod = pod.Wired

// More names of package pod.
var (
	hostDevice         = pod.HostDevice
	adopt              = pod.Adopt
	listWired          = pod.ListWired
	podMAC             = pod.MAC
	hostMAC            = pod.HostMAC()
	gateway4, gateway6 = pod.Gateways()[0], pod.Gateways()[1]
)

// memoryIPAM assigns addresses in order from two prefixes.
type memoryIPAM struct {
	mu     sync.Mutex
	leases map[string]Lease
	owners map[string]Attachment
	next   int

	fail      error                  // returned by Assign
	block     chan struct{}          // Assign waits for it
	waiting   int                    // calls of Assign that wait
	releasing func(Attachment) error // called by Release first
	assigned  func(context.Context)  // called after an assignment, before Assign returns

	ipv6 bool
}

func newMemoryIPAM() *memoryIPAM {
	return &memoryIPAM{leases: map[string]Lease{}, owners: map[string]Attachment{}}
}

func (m *memoryIPAM) Assign(ctx context.Context, a Attachment, ask Ask) (Lease, error) {
	m.mu.Lock()
	block := m.block
	m.mu.Unlock()
	if block != nil {
		m.set(func() { m.waiting++ })
		var err error
		select {
		case <-block:
		case <-ctx.Done():
			err = ctx.Err()
		}
		m.set(func() { m.waiting-- })
		if err != nil {
			return Lease{}, err
		}
	}
	l, assigned, err := m.assign(a, ask)
	if assigned != nil {
		assigned(ctx)
	}
	return l, err
}

func (m *memoryIPAM) assign(a Attachment, ask Ask) (Lease, func(context.Context), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return Lease{}, nil, m.fail
	}
	if l, ok := m.leases[a.Key()]; ok {
		return l, m.assigned, nil
	}
	l := Lease{Addresses: slices.Clone(ask.Addresses)}
	if len(l.Addresses) == 0 {
		m.next++
		l.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 65, byte(m.next >> 8), byte(m.next)})}
		if m.ipv6 {
			l.Addresses = append(l.Addresses, netip.MustParseAddr(fmt.Sprintf("fd00:65::%x", m.next)))
		}
	}
	m.leases[a.Key()], m.owners[a.Key()] = l, a
	return l, m.assigned, nil
}

func (m *memoryIPAM) Release(_ context.Context, a Attachment) error {
	m.mu.Lock()
	releasing := m.releasing
	m.mu.Unlock()
	if releasing != nil {
		if err := releasing(a); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.leases, a.Key())
	delete(m.owners, a.Key())
	return nil
}

func (m *memoryIPAM) Lookup(a Attachment) (Lease, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.leases[a.Key()]
	return l, ok
}

func (m *memoryIPAM) Attachments() []Attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Attachment
	for _, a := range m.owners {
		out = append(out, a)
	}
	return out
}

func (m *memoryIPAM) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// memoryRoutes records the routes of pods as the learn loop does.
type memoryRoutes struct {
	mu   sync.Mutex
	pods map[netip.Prefix]string
}

func (m *memoryRoutes) SetPod(p netip.Prefix, dev string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pods[p] = dev
}

func (m *memoryRoutes) DeletePod(p netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, p)
}

func (m *memoryRoutes) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.pods)
}

// node is an agent in a namespace of its own, and the plugin in front of it.
type node struct {
	t      testing.TB
	space  *space
	ipam   *memoryIPAM
	routes *memoryRoutes
	dir    string // holds the socket and the plugin
	socket string
	stop   func()
	mtu    int
	server *Server // of the last start
	// senders are those of the agent's server from the next start on; nil: none.
	senders Senders
	sysctls []string // the names that pods may have

	mu    sync.Mutex
	ready error // returned by Config.Ready; guarded by mu
}

func newNode(t testing.TB) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "cni") //nolint:usetesting // t.TempDir can be too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := &node{
		t: t, space: newSpace(t), ipam: newMemoryIPAM(), routes: &memoryRoutes{pods: map[netip.Prefix]string{}},
		dir: dir, socket: filepath.Join(dir, "cni.sock"), mtu: 1480,
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, PluginName)); err != nil {
		t.Fatal(err)
	}
	n.space.do(t, func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	})
	n.start()
	return n
}

// start starts the agent; stop is set to stop it and wait.
func (n *node) start() {
	n.t.Helper()
	var server *Server
	n.space.do(n.t, func() (err error) {
		server, err = NewServer(Config{
			IPAM: n.ipam, Routes: n.routes, Senders: n.senders, Sysctls: n.sysctls, Log: testLog(n.t),
			MTU: func() int { return n.mtu }, Ready: func() error {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.ready
			},
		})
		return err
	})
	n.server = server
	l, err := Listen(n.socket)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("Serve: %v", err)
		}
		if err := server.Close(); err != nil {
			n.t.Errorf("Close: %v", err)
		}
	})
	n.t.Cleanup(n.stop)
}

func (n *node) setReady(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ready = err
}

// testLog sends the agent's log to the test.
func testLog(t testing.TB) *slog.Logger {
	if _, fuzzing := t.(*testing.F); fuzzing { // a fuzz test accepts no log lines any more
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// call is one start of the plugin.
type call struct {
	verb, id, ifname, args string
	netns                  string
	version                string         // of the configuration; empty: 1.1.0
	conf                   map[string]any // more keys of the configuration
	stdin                  []byte         // in place of all of it
	env                    []string       // in place of the CNI_ variables
}

func (n *node) command(ctx context.Context, c call) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(n.dir, PluginName))
	cmd.Env = c.env
	if c.env == nil {
		// The race detector makes every process wait a second at its end.
		cmd.Env = []string{"CNI_COMMAND=" + c.verb, "CNI_PATH=" + n.dir, "GORACE=atexit_sleep_ms=0"}
		for key, value := range map[string]string{"CNI_CONTAINERID": c.id, "CNI_IFNAME": c.ifname, "CNI_NETNS": c.netns, "CNI_ARGS": c.args} {
			if value != "" {
				cmd.Env = append(cmd.Env, key+"="+value)
			}
		}
	}
	stdin := c.stdin
	if stdin == nil {
		stdin = n.config(c)
	}
	cmd.Stdin = bytes.NewReader(stdin)
	return cmd
}

func (n *node) config(c call) []byte {
	conf := map[string]any{"cniVersion": "1.1.0", "name": "onlink", "type": PluginName, "socket": n.socket}
	if c.version != "" {
		conf["cniVersion"] = c.version
	}
	maps.Copy(conf, c.conf)
	text, err := json.Marshal(conf)
	if err != nil {
		n.t.Fatal(err)
	}
	return text
}

// run starts the plugin and returns its exit code and output.
func (n *node) run(c call) (int, string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*waitLimit)
	defer cancel()
	cmd := n.command(ctx, c)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatalf("%s: %v (stderr %q)", c.verb, err, stderr.String())
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// ok runs the plugin and fails the test unless it succeeds.
func (n *node) ok(c call) string {
	n.t.Helper()
	code, out := n.run(c)
	if code != 0 {
		n.t.Fatalf("%s: exit code %d: %s", c.verb, code, out)
	}
	return out
}

// fails runs the plugin, which must print an error object with code.
func (n *node) fails(c call, code uint) errorObject {
	n.t.Helper()
	exit, out := n.run(c)
	var o errorObject
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		n.t.Fatalf("%s: exit code %d, printed %q: %v", c.verb, exit, out, err)
	}
	if exit != 1 || o.Code != code || o.CNIVersion == "" || o.Msg == "" {
		n.t.Fatalf("%s: exit code %d: %s; want exit code 1 and error code %d", c.verb, exit, out, code)
	}
	return o
}

// devices returns the host ends of all pods.
func (n *node) devices() []string {
	n.t.Helper()
	var out []string
	n.space.do(n.t, func() error {
		links, err := dump.Links(&netlink.Handle{}) // whole, though devices end meanwhile
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, ours.HostDevicePrefix) {
				out = append(out, l.Attrs().Name)
			}
		}
		return err
	})
	return out
}

// clean fails the test if any trace of a pod is left.
func (n *node) clean() {
	n.t.Helper()
	n.reaped()
	probing := hostDevice(probeID, "eth0")
	eventually(n.t, func() error { // a failed ADD starts the self-test, which has a device for a moment
		if slices.Contains(n.devices(), probing) {
			return fmt.Errorf("the self-test's device %s is still there", probing)
		}
		return nil
	})
	if d := n.devices(); len(d) != 0 {
		n.t.Errorf("host devices left: %v", d)
	}
	if a := n.ipam.Attachments(); len(a) != 0 {
		n.t.Errorf("leases left: %v", a)
	}
	if n.routes.len() != 0 {
		n.t.Errorf("routes left: %v", n.routes.pods)
	}
	n.space.do(n.t, func() error {
		routes, err := dump.Routes(&netlink.Handle{}, netlink.FAMILY_ALL, &netlink.Route{Protocol: ours.Protocol}, netlink.RT_FILTER_PROTOCOL)
		if len(routes) != 0 {
			n.t.Errorf("kernel routes left: %v", routes)
		}
		return err
	})
}

// reaped waits until the pods that DEL has ended are removed.
func (n *node) reaped() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := n.server.pods.reaper.Flush(ctx); err != nil {
		n.t.Error(err)
	}
}

// eventually waits until f returns nil.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	var err error
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(waitLimit); time.Now().Before(end); <-tick.C {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("gave up waiting: %v", err)
}
