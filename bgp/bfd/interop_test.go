package bfd

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// run starts a program inside the namespace until the test ends.
func (s *space) run(program string, args ...string) {
	s.t.Helper()
	var text bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &text, &text
	s.in(cmd.Start) // a child has the namespace of the thread that forks
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("%s says:\n%s", program, text.String())
		}
	})
}

// speaker is another implementation of BFD in namespace b, with a fast
// single-hop session to 10.9.0.1, one to fd00:9::1, and one over several hops
// to 10.9.0.1.
type speaker struct {
	name  string
	start func(t *testing.T, b *space)
}

func speakers(t *testing.T) []speaker {
	t.Helper()
	list := []speaker{{"bird", startBIRD}}
	if os.Getenv("ONLINK_INTEROP") != "" {
		list = append(list, speaker{"frr", startFRR})
	}
	return list
}

// TestInterop brings sessions up with other implementations, changes our
// timers while they are up, and cuts the wire.
func TestInterop(t *testing.T) {
	for _, other := range speakers(t) {
		t.Run(other.name, func(t *testing.T) {
			a, b := newSpaces(t)
			other.start(t, b)
			a.start(to("10.9.0.2"), to("fd00:9::2"))
			for _, peer := range []string{"10.9.0.2", "fd00:9::2"} {
				a.wait(peer, "fast", func(st Status) bool {
					return st.State == Up && st.Interval == 50*time.Millisecond && st.Detection == 150*time.Millisecond
				})
			}
			slower := to("10.9.0.2")
			slower.Interval = 400 * time.Millisecond
			a.in(func() error { return a.m.Set([]Session{slower, to("fd00:9::2")}) })
			st := a.wait("10.9.0.2", "slower", func(st Status) bool { return st.Interval == 400*time.Millisecond })
			received := st.Received
			a.wait("10.9.0.2", "still heard", func(st Status) bool { return st.Received > received+3 })
			for _, peer := range []string{"10.9.0.2", "fd00:9::2"} {
				if st := a.status(peer); st.State != Up || st.Downs != 0 {
					t.Errorf("%s: %+v", peer, st)
				}
			}
			a.in(func() error { return a.m.Set([]Session{to("10.9.0.2"), to("fd00:9::2"), multihop(to("10.9.0.2"))}) })
			a.wait("10.9.0.2", "fast again", func(st Status) bool { return st.Interval == 50*time.Millisecond })
			for deadline := time.Now().Add(patience); !a.isUp(multihop(to("10.9.0.2"))); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the multihop session does not come up: %+v", a.m.Sessions())
				}
			}
			b.cut("v2")
			for _, peer := range []string{"10.9.0.2", "fd00:9::2"} {
				if st := a.waitState(peer, Down); st.Failures != 1 {
					t.Errorf("%s: %+v", peer, st)
				}
			}
		})
	}
}

func (s *space) isUp(want Session) bool {
	for _, st := range s.m.Sessions() {
		if st.Session.key() == want.key() {
			return st.State == Up
		}
	}
	return false
}

func startBIRD(t *testing.T, b *space) {
	t.Helper()
	if _, err := exec.LookPath("bird"); err != nil {
		t.Skip("needs bird")
	}
	dir := t.TempDir()
	conf := `log stderr all;
router id 10.9.0.2;
protocol device { }
protocol bfd {
  accept;
  interface "v2" { interval 50 ms; idle tx interval 300 ms; multiplier 3; };
  multihop { interval 50 ms; multiplier 3; };
  neighbor 10.9.0.1 dev "v2" local 10.9.0.2;
  neighbor fd00:9::1 dev "v2" local fd00:9::2;
  neighbor 10.9.0.1 local 10.9.0.2 multihop on;
}
`
	path := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run("bird", "-f", "-c", path, "-s", filepath.Join(dir, "ctl"), "-P", filepath.Join(dir, "pid"))
}

// startFRR starts zebra and bfdd, which drop to their own user and keep their
// sockets in a folder under /run/frr.
func startFRR(t *testing.T, b *space) {
	t.Helper()
	u, err := user.Lookup("frr")
	if err != nil {
		t.Skip("needs frr")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	instance := fmt.Sprintf("onlink-bfd-%d", os.Getpid())
	sockets := filepath.Join("/run/frr", instance)
	dir, err := os.MkdirTemp("", "onlink-bfd-") //nolint:usetesting // FRR's user must get in, and t.TempDir is root's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir); _ = os.RemoveAll(sockets) })
	for _, d := range []string{sockets, dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	var conf strings.Builder
	conf.WriteString("bfd\n")
	for _, peer := range []string{"10.9.0.1", "fd00:9::1 local-address fd00:9::2", "10.9.0.1 multihop local-address 10.9.0.2"} {
		fmt.Fprintf(&conf, " peer %s\n  receive-interval 50\n  transmit-interval 50\n  detect-multiplier 3\n  no shutdown\n !\n", peer)
	}
	path := filepath.Join(dir, "bfdd.conf")
	if err := os.WriteFile(path, []byte(conf.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	b.run("/usr/lib/frr/zebra", "-N", instance, "-f", "/dev/null", "-P", "0", "-i", filepath.Join(dir, "zebra.pid"), "--log", "stdout")
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(sockets, "zserv.api")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("zebra does not start")
		}
	}
	b.run("/usr/lib/frr/bfdd", "-N", instance, "-f", path, "-P", "0", "-i", filepath.Join(dir, "bfdd.pid"),
		"--bfdctl", filepath.Join(dir, "bfdd.sock"), "--log", "stdout")
}

// TestLoad keeps sessions at 50 ms x 3 while every CPU is busy, inside this
// process and outside: no flap. ONLINK_LONG=10m runs it that long.
func TestLoad(t *testing.T) {
	long := 3 * time.Second
	if text := os.Getenv("ONLINK_LONG"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	a, b := newSpaces(t)
	a.startProcess(to("10.9.0.2"), to("fd00:9::2"), multihop(to("10.9.0.2")))
	b.startProcess(to("10.9.0.1"), to("fd00:9::1"), multihop(to("10.9.0.1")))
	for _, want := range []Session{to("10.9.0.2"), to("fd00:9::2"), multihop(to("10.9.0.2"))} {
		for deadline := time.Now().Add(patience); !a.isUp(want); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%+v does not come up", want)
			}
		}
	}
	stop := make(chan struct{})
	defer close(stop)
	for range runtime.NumCPU() * 2 {
		a.run("sh", "-c", "while :; do :; done")
		go burn(stop)
	}
	time.Sleep(long)
	for _, s := range []*space{a, b} {
		for _, st := range s.m.Sessions() {
			if st.State != Up || st.Downs != 0 {
				t.Errorf("flapped: %+v", st)
			}
		}
	}
}

// burn keeps a CPU and the garbage collector busy.
func burn(stop chan struct{}) {
	keep := make([][]byte, 64)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
			keep[i%len(keep)] = bytes.Repeat([]byte{byte(i)}, 64<<10)
		}
	}
}

// cut sets a device down.
func (s *space) cut(dev string) {
	s.t.Helper()
	s.in(func() error { return setDown(dev) })
}

func setDown(dev string) error {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	return netlink.LinkSetDown(link)
}
