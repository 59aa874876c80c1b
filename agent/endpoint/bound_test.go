package endpoint

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestBound: a caller has its share and not more, root is not kept out by others, and
// a closed connection makes room, once.
func TestBound(t *testing.T) {
	l := Bound(nil, Bounds{All: 5, Each: 3}, "test", slog.New(slog.DiscardHandler)).(*bounded)
	now := time.Now()
	fill := func(key string, want int) {
		t.Helper()
		n := 0
		for range 10 {
			if l.open(key, now) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s has %d connections, want %d", key, n, want)
		}
	}
	fill("192.0.2.1", 3)
	fill("192.0.2.2", 2) // all
	fill("192.0.2.3", 0)
	fill(rootKey, 5)
	l.End("192.0.2.1")
	fill("192.0.2.3", 1)
	for range 2 {
		l.End("192.0.2.1")
		l.End("192.0.2.2")
	}
	l.End("192.0.2.3")
	for range 5 {
		l.End(rootKey)
	}
	if len(l.of) != 0 || l.sum != 0 {
		t.Errorf("%v is left, %d", l.of, l.sum)
	}
}

// TestBoundIdle: thousands of connections that send nothing are as many as the bound,
// and the others are closed at once.
func TestBoundIdle(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "s")
			}
			raw, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			lis := Bound(raw, Bounds{All: 8, Each: 8}, "test", slog.New(slog.DiscardHandler))
			accepted := make(chan net.Conn, 100)
			go func() {
				defer close(accepted)
				for {
					c, err := lis.Accept()
					if err != nil {
						return
					}
					accepted <- c
				}
			}()
			var kept []net.Conn
			closed := 0
			for range 500 {
				c, err := net.Dial(network, raw.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if len(kept) < 8 {
					<-accepted
					kept = append(kept, c)
					continue
				}
				if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) || isReset(err) {
					closed++
				}
				c.Close()
			}
			if closed != 492 {
				t.Errorf("%d of 492 were closed", closed)
			}
			lis.Close()
			for range accepted {
				t.Error("one more was accepted")
			}
			for _, c := range kept {
				c.Close()
			}
		})
	}
}

// isReset reports whether a connection was reset: closed before it was accepted.
func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// TestCallerOf: a caller is an address without its port, or a user.
func TestCallerOf(t *testing.T) {
	lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	c, err := net.Dial("unix", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := lis.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, want := callerOf(s), "uid "+strconv.Itoa(os.Getuid()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
