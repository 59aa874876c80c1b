//go:debug multipathtcp=0

package bench

import (
	"errors"
	"io"
	"math"
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestLoad feeds BIRD and counts what its kernel holds by another way than the
// benchmark does: a load that ends too early would flatter.
func TestLoad(t *testing.T) {
	if _, err := lookPath("bird"); err != nil {
		t.Fatal(err) // make test installs it
	}
	r := &run{opts: Options{Out: io.Discard, Rounds: 1}, began: time.Now(), dir: t.TempDir(), sockets: t.TempDir()}
	l, err := newLoad(t.Context(), r, birdReceiver)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if n, err := l.program.prefixes(); err != nil || n == 0 {
		t.Skip("needs kernel feature: fib_triestat")
	}
	const n = 2000
	count := func() int {
		routes, err := l.pair.near.link.RouteListFiltered(unix.AF_INET, &netlink.Route{Protocol: netlink.RouteProtocol(birdReceiver.protocol)}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			t.Fatal(err)
		}
		return len(routes)
	}
	for name, f := range map[string]form{"packed": packedForm, "calico": calicoForm} {
		if _, err := l.announce(t.Context(), f, n); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := count(); got != n {
			t.Errorf("%s: the kernel holds %d routes, want %d", name, got, n)
		}
		if took, err := l.single(t.Context(), f, n, 3); err != nil || len(took) != 3 {
			t.Errorf("%s: single routes: %v, %v", name, took, err)
		}
		if _, err := l.withdraw(t.Context(), n); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := count(); got != 0 {
			t.Errorf("%s: the kernel still holds %d routes", name, got)
		}
	}
}

// TestWriters checks that the peers of the writer figures write what they are
// timed for.
func TestWriters(t *testing.T) {
	const n = 1000
	for name, write := range map[string]func() error{
		"bare":   func() error { _, err := timeBare(n); return err },
		"singly": func() error { _, err := timeSingly(n); return err },
		"table":  func() error { _, err := timeTable(t.Context(), decided(n, 10), false); return err },
	} {
		if err := write(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCPU: the processor time of another process is exact: its ticks would be 10 ms.
func TestCPU(t *testing.T) {
	p := &program{cmd: exec.Command("cat")}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// An answer proves that it has run.
	_, err = io.WriteString(in, "x")
	if _, read := io.ReadFull(out, make([]byte, 1)); err != nil || read != nil {
		t.Fatal(err, read)
	}
	used, err := p.cpu()
	if err != nil || used <= 0 || used > 1 || used == math.Trunc(100*used)/100 {
		t.Errorf("cat has used %v s: %v", used, err)
	}
	if err := errors.Join(in.Close(), p.cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if used, err := p.cpu(); err == nil {
		t.Errorf("a program that has ended has used %v s", used)
	}
}
