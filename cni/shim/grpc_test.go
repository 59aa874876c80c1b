package shim

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	onlinkv1 "onlink/proto/v1"
)

// agent is a CNI service of grpc-go whose Add is a function.
type agent struct {
	onlinkv1.UnimplementedCNIServer
	add func(context.Context, *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error)
}

// Add implements onlinkv1.CNIServer.
func (a *agent) Add(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
	return a.add(ctx, in)
}

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shim") //nolint:usetesting // t.TempDir can be too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// serve starts grpc-go and returns its socket.
func serve(t *testing.T, add func(context.Context, *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error), opts ...grpc.ServerOption) string {
	t.Helper()
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(opts...)
	onlinkv1.RegisterCNIServer(s, &agent{add: add})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

// callAdd makes one call as the plugin does.
func callAdd(path string, req request) ([]byte, int, error) {
	body, err := ask(new(Memory), conf{socket: path, timeout: 10}, "/onlink.v1.CNI/Add", req)
	if err != nil {
		return nil, 0, err
	}
	return parseReply(body)
}

// TestGRPC runs the client against grpc-go: sizes around frames and windows,
// and the server's ways of failing.
func TestGRPC(t *testing.T) {
	echo := func(_ context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
		return &onlinkv1.CNIReply{Stdout: in.GetConfig(), ExitCode: uint32(len(in.GetContainerId()))}, nil
	}
	for _, size := range []int{0, 1, 16370, 16384, 16400, 65535, 65536, 200000, MaxConfig} {
		path := serve(t, echo)
		want := bytes.Repeat([]byte("x"), size)
		got, code, err := callAdd(path, request{containerID: "abc", config: want})
		if err != nil || code != 3 || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d bytes, exit code %d, %v", size, len(got), code, err)
		}
	}
}

// TestGRPCFields checks every field, headers with a dynamic table, and
// non-ASCII values on their way.
func TestGRPCFields(t *testing.T) {
	var got *onlinkv1.CNIRequest
	var deadline bool
	path := serve(t, func(ctx context.Context, in *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
		_, deadline = ctx.Deadline()
		got = in
		md := metadata.Pairs("x-long", strings.Repeat("v", 20000), "x-bin-bin", "\x00\xff", "server", "Grpc Test/1.0")
		return &onlinkv1.CNIReply{Stdout: []byte("ok\n")}, errors.Join(grpc.SetHeader(ctx, md), grpc.SetTrailer(ctx, md))
	})
	req := request{"id", "/run/netns/ü", "eth0", "A=1;B=2", "/opt/cni/bin", []byte("{}"), "v0.1.0"}
	out, code, err := callAdd(path, req)
	if err != nil || code != 0 || string(out) != "ok\n" {
		t.Fatalf("%q, %d, %v", out, code, err)
	}
	back := request{got.GetContainerId(), got.GetNetns(), got.GetIfname(), got.GetArgs(), got.GetPath(), got.GetConfig(), got.GetVersion()}
	if string(back.append(nil)) != string(req.append(nil)) || !deadline {
		t.Errorf("server saw %+v, deadline %v", got, deadline)
	}
}

// TestGRPCErrors maps the server's failures.
func TestGRPCErrors(t *testing.T) {
	fails := func(c codes.Code, text string) func(context.Context, *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
		return func(context.Context, *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
			return nil, status.Error(c, text)
		}
	}
	tests := []struct {
		name string
		add  func(context.Context, *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error)
		opts []grpc.ServerOption
		code uint
		want string
	}{
		{"unavailable", fails(codes.Unavailable, "stopping"), nil, codeRetryLater, "stopping"},
		{"deadline", fails(codes.DeadlineExceeded, "late"), nil, codeRetryLater, "late"},
		{"exhausted", fails(codes.ResourceExhausted, "full"), nil, codeRetryLater, "full"},
		{"internal with a message that must be escaped", fails(codes.Internal, "100% ü\n"), nil, codeInternal, "100% ü\n"},
		{"unknown", func(context.Context, *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
			return nil, errors.New("boom")
		}, nil, codeInternal, "boom"},
		{"request larger than the server takes", fails(codes.OK, ""), []grpc.ServerOption{grpc.MaxRecvMsgSize(10)}, codeRetryLater, "larger than max"},
		{"no streams allowed after the first", fails(codes.Aborted, "x"), []grpc.ServerOption{grpc.MaxConcurrentStreams(1)}, codeInternal, "grpc status 10"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := serve(t, tt.add, tt.opts...)
			_, _, err := callAdd(path, request{config: bytes.Repeat([]byte("y"), 100000)})
			if err == nil {
				t.Fatal("no error")
			}
			f := unreachable("ADD", path, err)
			if f.code != tt.code || !strings.Contains(f.details, tt.want) {
				t.Errorf("error %+v, want code %d and %q", f, tt.code, tt.want)
			}
		})
	}
	t.Run("method the server does not have", func(t *testing.T) {
		path := serve(t, nil)
		_, err := ask(new(Memory), conf{socket: path, timeout: 10}, "/onlink.v1.CNI/Gc", request{})
		if e, ok := errors.AsType[statusError](err); !ok || e.code != int(codes.Unimplemented) {
			t.Errorf("got %v", err)
		}
	})
}

// TestGRPCStop stops the server while a call is in it: gracefully the answer
// still arrives, abruptly there is an error at once.
func TestGRPCStop(t *testing.T) {
	for _, graceful := range []bool{true, false} {
		path := socketPath(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		entered, leave := make(chan struct{}), make(chan struct{})
		onlinkv1.RegisterCNIServer(s, &agent{add: func(ctx context.Context, _ *onlinkv1.CNIRequest) (*onlinkv1.CNIReply, error) {
			close(entered)
			select {
			case <-leave:
			case <-ctx.Done():
			}
			return &onlinkv1.CNIReply{Stdout: []byte("late")}, nil
		}})
		go func() { _ = s.Serve(l) }()
		stopped := make(chan struct{})
		go func() {
			<-entered
			if graceful {
				time.AfterFunc(50*time.Millisecond, func() { close(leave) })
				s.GracefulStop()
			} else {
				s.Stop()
			}
			close(stopped)
		}()
		out, _, err := callAdd(path, request{})
		if graceful && (err != nil || string(out) != "late") {
			t.Errorf("graceful stop: %q, %v", out, err)
		}
		if !graceful && err == nil {
			t.Errorf("abrupt stop: %q", out)
		}
		<-stopped
	}
}
