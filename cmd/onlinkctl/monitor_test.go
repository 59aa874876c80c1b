package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/creack/pty"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"onlink/cmd/onlinkctl/monitor"
	onlinkv1 "onlink/proto/v1"
)

// TestMonitorOnce: a frame in the words of the other commands, in the size that the
// environment asks for.
func TestMonitorOnce(t *testing.T) {
	socket := serve(t, &agent{})
	for _, size := range []struct{ name, columns, lines string }{{"monitor", "", ""}, {"monitor_wide", "160", "30"}} {
		t.Run(size.name, func(t *testing.T) {
			t.Setenv("COLUMNS", size.columns)
			t.Setenv("LINES", size.lines)
			stdout, stderr, err := onlinkctl(t.Context(), "monitor", "--once", "--socket", socket)
			if err != nil || stderr != "" || strings.ContainsRune(stdout, '\x1b') {
				t.Errorf("error %v, stderr %q, stdout %q", err, stderr, stdout)
			}
			golden(t, size.name, stdout)
		})
	}
	t.Setenv("COLUMNS", "20")
	if _, _, err := onlinkctl(t.Context(), "monitor", "--once", "--socket", socket); err == nil || !strings.Contains(err.Error(), "set COLUMNS and LINES") {
		t.Errorf("a frame of 20 columns: error %v", err)
	}
}

// TestCanFill: what is no screen is refused with what to use instead.
func TestCanFill(t *testing.T) {
	t.Parallel()
	host, user, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	defer user.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, tt := range []struct {
		name string
		out  *os.File
		term string
		want string
	}{
		{"a terminal", user, "xterm", ""},
		{"a file", file, "xterm", "not a terminal"},
		{"dumb", user, "dumb", "TERM=dumb"},
		{"unknown", user, "", "set TERM"},
	} {
		switch err := canFill(tt.out, tt.term); {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want == "":
		case err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "use onlinkctl monitor --once, or onlinkctl status -o json"):
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
}

func TestInTurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		wanted string
		asked  string
		want   string
	}{
		{"", "", ""},
		{"a", "", "a"},
		{"a b c d", "", "a b c d"},
		{"a b c d", "b", "a c d b"},
		{"a b c d", "d", "a b c d"},
		{"a b c d", "gone", "a b c d"},
		{"a b", "a", "a b"},
	} {
		if got := strings.Join(inTurn(strings.Fields(tt.wanted), tt.asked), " "); got != tt.want {
			t.Errorf("%q after %q: %q, want %q", tt.wanted, tt.asked, got, tt.want)
		}
	}
}

// watched is an agent with a stream of its status, which counts the calls at one time.
type watched struct {
	agent
	now, most, routes atomic.Int32
	hangs             atomic.Bool // it answers no list
}

func (s *watched) WatchStatus(_ *onlinkv1.WatchStatusRequest, to grpc.ServerStreamingServer[onlinkv1.Status]) error {
	st, err := s.GetStatus(to.Context(), nil)
	if err != nil {
		return err
	}
	if err := to.Send(st); err != nil {
		return err
	}
	<-to.Context().Done()
	return nil
}

// call counts a call until it has ended.
func (s *watched) call() (done func()) {
	if n := s.now.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	return func() { s.now.Add(-1) }
}

func (s *watched) ListPeers(ctx context.Context, r *onlinkv1.ListPeersRequest) (*onlinkv1.ListPeersReply, error) {
	defer s.call()()
	if s.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.agent.ListPeers(ctx, r)
}

func (s *watched) GetPeer(ctx context.Context, r *onlinkv1.GetPeerRequest) (*onlinkv1.PeerDetail, error) {
	defer s.call()()
	return s.agent.GetPeer(ctx, r)
}

func (s *watched) ListRoutes(ctx context.Context, r *onlinkv1.ListRoutesRequest) (*onlinkv1.ListRoutesReply, error) {
	s.routes.Add(1)
	return s.agent.ListRoutes(ctx, r)
}

// at serves on a socket until stop.
func (s *watched) at(t *testing.T, socket string) (stop func()) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	onlinkv1.RegisterAdminServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestMonitorFeed: a feed brings every kind of answer, one call at a time and no list of
// routes; it says why the agent is gone, and connects again by itself.
func TestMonitorFeed(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "onlinkctl") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary folder fails no test
	s, socket := &watched{}, filepath.Join(dir, "admin.sock")
	stop := s.at(t, socket)
	f := newFeed(&app{socket: socket, timeout: time.Second, now: time.Now}, 10*time.Millisecond)
	f.Want([]string{"rr1", "no such peer", "10.57.0.12"})
	ctx, cancel := context.WithCancel(t.Context())
	answers, ended := make(chan monitor.Answer), make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(ctx, func(a monitor.Answer) {
			select {
			case answers <- a:
			case <-ctx.Done():
			}
		})
	}()
	kinds := func(a monitor.Answer) (list []string) {
		for kind, m := range map[string]proto.Message{"status": a.Status, "peers": a.Peers, "pools": a.Pools, "blocks": a.Blocks, "detail of " + a.Detail.GetPeer().GetAddress(): a.Detail} {
			if m.ProtoReflect().IsValid() {
				list = append(list, kind)
				if text := fmt.Sprint(m); strings.Contains(text, "\x1b") || strings.Contains(text, `\x1b`) {
					t.Errorf("a terminal's escape code got through: %s", text)
				}
			}
		}
		if a.Failed != nil {
			list = append(list, "failed")
		}
		return list
	}
	// until reads answers until it has one of each kind, and returns the last failure.
	until := func(want ...string) (failed error) {
		t.Helper()
		late := time.After(time.Minute) // the feed pauses for many times as long as a slow answer takes
		for len(want) > 0 {
			select {
			case a := <-answers:
				if a.At.IsZero() {
					t.Error("an answer without a time")
				}
				if a.Failed != nil {
					failed = a.Failed
					if !a.Again.After(a.At) {
						t.Errorf("the next attempt is at %s, now it is %s", a.Again, a.At)
					}
				}
				got := kinds(a)
				want = slices.DeleteFunc(want, func(kind string) bool { return slices.Contains(got, kind) })
			case <-late:
				t.Fatalf("no answer of %q", want)
			}
		}
		return failed
	}
	everything := []string{"status", "peers", "pools", "blocks", "detail of 10.57.0.10", "detail of 10.57.0.12"}
	if err := until(slices.Clone(everything)...); err != nil {
		t.Errorf("failed: %v", err)
	}
	stop()
	if err := until("failed"); err == nil || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("the agent ended: %v", err)
	}
	if err := until("failed"); err == nil || !strings.Contains(err.Error(), "the agent is not running") {
		t.Errorf("no agent: %v", err)
	}
	stop = s.at(t, socket)
	until(slices.Clone(everything)...) //nolint:errcheck // an attempt before the socket was there may fail
	s.hangs.Store(true)
	if err := until("failed"); err == nil || !strings.Contains(err.Error(), "did not answer within 1s") {
		t.Errorf("an agent that hangs: %v", err)
	}
	s.hangs.Store(false)
	until(slices.Clone(everything)...) //nolint:errcheck // the last failure is that of before
	cancel()
	<-ended
	stop()
	if most, routes := s.most.Load(), s.routes.Load(); most != 1 || routes != 0 {
		t.Errorf("%d calls at once, want 1; %d lists of routes, want none", most, routes)
	}
}

// TestMonitorFeedPanics: a panic of any goroutine of the feed is one of Run, whose caller
// restores the terminal.
func TestMonitorFeedPanics(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "onlinkctl") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary folder fails no test
	socket := filepath.Join(dir, "admin.sock")
	defer (&watched{}).at(t, socket)()
	f := newFeed(&app{socket: socket, timeout: time.Second, now: time.Now}, 10*time.Millisecond)
	for _, kind := range []string{"status", "peers"} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, "fault at "+kind) || !strings.Contains(text, "monitorfeed.go") {
					t.Errorf("%s: it panicked with %s", kind, text)
				}
			}()
			f.Run(t.Context(), func(a monitor.Answer) {
				if kind == "status" && a.Status != nil || kind == "peers" && a.Peers != nil {
					panic("fault at " + kind)
				}
			})
		}()
	}
}
