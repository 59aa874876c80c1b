package bgp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"onlink/bgp/policy"
)

// childEnv makes the test binary run one speaker, described in JSON.
const childEnv = "ONLINK_BGP_TEST_CHILD"

// child describes the agent of a restart test.
type child struct {
	Address    netip.Addr
	Listen     uint16
	Restarting bool
	Origins    []Origin
	Peers      []Peer
	Dynamics   []Dynamic
}

// runChild runs the agent. It ends on SIGTERM as an agent does, without a CEASE.
func runChild(spec string) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := runAgent(ctx, spec)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

func runAgent(ctx context.Context, spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	s, err := New(Config{
		ASN: 64512, RouterID: c.Address, NodeAddress: c.Address, Restarting: c.Restarting, ListenPort: c.Listen,
		ListenAddresses: []netip.Addr{c.Address}, Pools: []policy.Pool{{Prefix: prefix("10.244.0.0/16")}},
	})
	if err != nil {
		return err
	}
	if err := errors.Join(s.SetOrigins(ctx, c.Origins), s.SetPeers(ctx, c.Peers, c.Dynamics), s.Start(ctx)); err != nil {
		return err
	}
	return s.Run(ctx)
}

// startChild starts a speaker in a process of its own.
func startChild(t *testing.T, c child) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	cmd.Stderr = testWriter{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // an ended process is the goal
			_ = cmd.Wait()         // it was killed, so there is an error
		}
	})
	return cmd
}

// TestRestartKeepsRoutes: an agent that dies, by SIGKILL or SIGTERM, and
// comes back does not lose a route at its reflector nor at the other client;
// routes that it no longer announces go with its End-of-RIB.
func TestRestartKeepsRoutes(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.7.0.1"), testConfig(t, "127.7.0.2"))
	rr, b := n[0], n[1]
	rr.setPeers(nil, clientsOf("127.7.0.0/24"))
	b.setPeers([]Peer{from(to("127.7.0.1", IBGP), "127.7.0.2")})
	leaf := addr("127.7.0.3")
	agent := func(restarting bool, origins ...string) child {
		c := child{Address: leaf, Restarting: restarting, Peers: []Peer{from(to("127.7.0.1", IBGP), "127.7.0.3")}}
		for _, p := range origins {
			c.Origins = append(c.Origins, Origin{Prefix: prefix(p)})
		}
		return c
	}
	cmd := startChild(t, agent(false, "10.244.3.0/26", "10.244.4.0/26"))
	b.waitRoutes("10.244.3.0/26 via 127.7.0.3", "10.244.4.0/26 via 127.7.0.3")
	rr.waitUp(leaf)

	restart := func(sig syscall.Signal, spec child) {
		t.Helper()
		before := rr.peer(leaf).Since
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); sig == syscall.SIGTERM && err != nil {
			t.Fatalf("child: %v", err)
		}
		eventually(t, func() string {
			if p := rr.peer(leaf); p.State == established {
				return "the reflector has not noticed the loss"
			}
			return ""
		})
		cmd = startChild(t, spec)
		eventually(t, func() string {
			if p := rr.peer(leaf); p.State != established || !p.Since.After(before) || !p.EndOfRIB {
				return fmt.Sprintf("not back: %s, End-of-RIB %t, %q", p.State, p.EndOfRIB, p.LastError)
			}
			return ""
		})
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		restart(sig, agent(true, "10.244.3.0/26", "10.244.4.0/26"))
		b.waitRoutes("10.244.3.0/26 via 127.7.0.3", "10.244.4.0/26 via 127.7.0.3")
		for _, at := range []*node{rr, b} {
			if lost := at.lost(); len(lost) != 0 {
				t.Fatalf("%s: %s lost %v during the restart", sig, at.addr, lost)
			}
		}
	}
	restart(syscall.SIGKILL, agent(true, "10.244.4.0/26"))
	b.waitRoutes("10.244.4.0/26 via 127.7.0.3")
	for _, at := range []*node{rr, b} {
		if lost := at.lost(); len(lost) != 1 || lost[0] != prefix("10.244.3.0/26") {
			t.Errorf("%s lost %v, want only 10.244.3.0/26", at.addr, lost)
		}
	}
	if p := rr.peer(leaf); p.Flaps != 3 || !p.Dynamic {
		t.Errorf("status after restarts: %+v", p)
	}
}

// TestShutdownDropsRoutes: the routes of a node taken out for good go at once,
// although its peers have graceful restart.
func TestShutdownDropsRoutes(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.8.0.1"), testConfig(t, "127.8.0.2"))
	n[0].setPeers(nil, clientsOf("127.8.0.0/24"))
	n[1].originate("10.244.1.0/26")
	n[1].setPeers([]Peer{from(to("127.8.0.1", IBGP), "127.8.0.2")})
	n[0].waitRoutes("10.244.1.0/26 via 127.8.0.2")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	if err := n[1].Shutdown(ctx, "node is being removed"); err != nil {
		t.Fatal(err)
	}
	n[0].waitRoutes()
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("the route was kept for %s", took)
	}
}

// TestReflectorRestartKeepsRoutes: a reflector that dies and comes back makes
// no client lose another client's routes: it waits for its last clients before
// it sends End-of-RIB to any.
func TestReflectorRestartKeepsRoutes(t *testing.T) {
	n := startNodes(t, testConfig(t, "127.9.0.2"), testConfig(t, "127.9.0.3"))
	a, b := n[0], n[1]
	agent := child{Address: addr("127.9.0.1"), Listen: testPort, Dynamics: []Dynamic{clientsOf("127.9.0.0/24")}}
	cmd := startChild(t, agent)
	a.originate("10.244.2.0/26")
	b.originate("10.244.3.0/26")
	for _, c := range n {
		c.setPeers([]Peer{from(to("127.9.0.1", IBGP), c.addr.String())})
	}
	a.waitRoutes("10.244.3.0/26 via 127.9.0.3")
	b.waitRoutes("10.244.2.0/26 via 127.9.0.2")
	a.waitUp(agent.Address)
	b.waitUp(agent.Address)

	agent.Restarting = true
	agent.Dynamics[0].Known = []netip.Addr{a.addr, b.addr}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		before := b.peer(agent.Address).Since
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); sig == syscall.SIGTERM && err != nil {
			t.Fatalf("child: %v", err)
		}
		cmd = startChild(t, agent)
		eventually(t, func() string {
			for _, c := range n {
				if p := c.peer(agent.Address); p.State != established || !p.Since.After(before) || !p.EndOfRIB {
					return fmt.Sprintf("%s: not back: %s, End-of-RIB %t, %q", c.addr, p.State, p.EndOfRIB, p.LastError)
				}
			}
			return ""
		})
		a.waitRoutes("10.244.3.0/26 via 127.9.0.3")
		b.waitRoutes("10.244.2.0/26 via 127.9.0.2")
		for _, c := range n {
			if lost := c.lost(); len(lost) != 0 {
				t.Fatalf("%s: %s lost %v while the reflector restarted", sig, c.addr, lost)
			}
		}
	}
	b.originate()
	a.waitRoutes()
}

// TestForwardingState: a speaker whose session broke still has its forwarding
// state, and its next OPEN has the flag; its first OPEN does not.
func TestForwardingState(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.31.0.1"))[0]
	p := Peer{Name: "raw", Address: addr("127.31.0.2"), Passive: true, Session: Session{Role: IBGP}}
	x.setPeers([]Peer{p})
	for session, want := range []byte{0, 0x80} {
		raw := dialRaw(t, "127.31.0.2", "127.31.0.1")
		flags, forwarding := gracefulRestartOf(t, raw.open)
		if flags&0x80 != 0 || forwarding != want {
			t.Errorf("OPEN %d: restart flags %#x and forwarding flags %#x, want no restart and %#x", session, flags, forwarding, want)
		}
		eventually(t, func() string {
			if !x.IsUp(p.Address) {
				return "the session is not up"
			}
			return ""
		})
		if err := raw.conn.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() string {
			if x.IsUp(p.Address) {
				return "the loss was not noticed"
			}
			return ""
		})
	}
}

// gracefulRestartOf finds the graceful restart capability of an OPEN (RFC
// 4724 section 3): its flags, and those of its first family.
func gracefulRestartOf(t *testing.T, open []byte) (flags, family byte) {
	t.Helper()
	for params := open[10:]; len(params) >= 2; params = params[2+int(params[1]):] {
		if params[0] != 2 {
			continue
		}
		for caps := params[2 : 2+int(params[1])]; len(caps) >= 2; caps = caps[2+int(caps[1]):] {
			if caps[0] == 64 && caps[1] >= 6 {
				return caps[2], caps[7]
			}
		}
	}
	t.Fatalf("no graceful restart capability in % x", open)
	return 0, 0
}
