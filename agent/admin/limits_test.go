package admin

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"

	"onlink/agent/endpoint"
	"onlink/agent/state"
	onlinkv1 "onlink/proto/v1"
)

// raw is a codec of messages that are bytes, for what no message is.
type raw struct{}

func (raw) Name() string { return "proto" }
func (raw) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("no bytes")
	}
	return b, nil
}

func (raw) Unmarshal(b []byte, v any) error {
	if p, ok := v.(*[]byte); ok {
		*p = bytes.Clone(b)
		return nil
	}
	return errors.New("no bytes")
}

var _ encoding.Codec = raw{}

// besieged is an API at a unix socket as the agent serves it, with a big status.
type besieged struct {
	socket string
	bed    *bed
}

func newBesieged(t *testing.T) *besieged {
	t.Helper()
	raw, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	b := &besieged{socket: raw.Addr().String(), bed: &bed{snapshot: &state.Snapshot{Found: []string{strings.Repeat("x", 100<<10)}}}}
	// This process may be root, whom no bound keeps out: here it is any user.
	lis := endpoint.Bound(renamed{raw}, endpoint.Bounds{All: 128, Each: 32}, "test", slog.New(slog.DiscardHandler))
	served(t, b.bed.server(t), lis, Door{})
	return b
}

// renamed is a listener whose connections come from TCP addresses, as far as the
// bound of connections sees.
type renamed struct{ net.Listener }

func (l renamed) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fromTCP{c.(*net.UnixConn)}, nil
}

type fromTCP struct{ *net.UnixConn }

func (fromTCP) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7} }

func (b *besieged) dial(t *testing.T, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+b.socket, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // a test's client
	return conn
}

// dialMany makes connections, and returns how they end.
func (b *besieged) dialMany(t *testing.T, n int, opts ...grpc.DialOption) (conns []*grpc.ClientConn, end func()) {
	t.Helper()
	for range n {
		conns = append(conns, b.dial(t, opts...))
	}
	return conns, func() {
		for _, c := range conns {
			c.Close() //nolint:errcheck,gosec // a test's client
		}
	}
}

// heap is the memory in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers of the first have freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// siegeBound is the most memory that a siege may add, the clients' own part included:
// docs/security.md names it.
const siegeBound = 32 << 20

// TestSiege: thousands of connections, watchers, readers that do not read, messages of
// 10 MB and random ones: the memory stays bounded, and an operator is answered.
func TestSiege(t *testing.T) {
	b := newBesieged(t)
	operator := onlinkv1.NewAdminClient(b.dial(t))
	answered := func() {
		t.Helper()
		if _, err := operator.GetStatus(t.Context(), &onlinkv1.GetStatusRequest{}); err != nil {
			t.Errorf("an operator is not answered: %v", err)
		}
	}
	answered()
	before := heap()
	check := func(what string) {
		t.Helper()
		answered()
		now := heap()
		t.Logf("%s: %d KiB in use, %d goroutines", what, (int64(now)-int64(before))>>10, runtime.NumGoroutine()) //nolint:gosec // bytes
		if now > before+siegeBound {
			t.Errorf("%s: %d MiB more are in use", what, (now-before)>>20)
		}
	}
	for _, part := range []struct {
		name string
		do   func(*testing.T, *besieged) (end func())
	}{
		{"5,000 idle connections", idleConnections},
		{"1,000 watchers that do not read", watchers},
		{"messages of 10 MB", largeMessages},
		{"random messages", randomMessages},
		{"calls that do not end", halfCalls},
	} {
		end := part.do(t, b)
		check(part.name)
		end()
	}
	check("afterwards")
}

func idleConnections(t *testing.T, b *besieged) (end func()) {
	t.Helper()
	var kept []net.Conn
	began := time.Now()
	for range 5000 {
		c, err := net.Dial("unix", b.socket)
		for errors.Is(err, unix.EAGAIN) && time.Since(began) < time.Minute { // the queue of the socket is full (unix(7)): the server is behind
			time.Sleep(time.Millisecond)
			c, err = net.Dial("unix", b.socket)
		}
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, c)
	}
	open := 0
	for _, c := range kept {
		// The server speaks first (its SETTINGS), or closes.
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			open++
		}
	}
	// One that is no HTTP/2 makes room after a while.
	if most := 32 * (1 + int(time.Since(began)/handshake)); open == 0 || open > most {
		t.Errorf("%d connections of one caller are open, want some and at most %d", open, most)
	}
	return func() {
		for _, c := range kept {
			c.Close()
		}
	}
}

func watchers(t *testing.T, b *besieged) (end func()) {
	t.Helper()
	full := 0
	conns, end := b.dialMany(t, 20)
	for _, conn := range conns {
		c := onlinkv1.NewAdminClient(conn)
		for range 50 {
			stream, err := c.WatchStatus(t.Context(), &onlinkv1.WatchStatusRequest{}, grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
			// The first status is taken of those that the server admits; nothing after it.
			switch _, err := stream.Recv(); status.Code(err) {
			case codes.OK:
			case codes.ResourceExhausted:
				full++
			default:
				t.Fatal(err)
			}
		}
	}
	if want := 1000 - maxWatchersEach; full != want {
		t.Errorf("%d of 1,000 watchers are refused, want %d", full, want)
	}
	return end
}

func largeMessages(t *testing.T, b *besieged) (end func()) {
	t.Helper()
	large := bytes.Repeat([]byte{0x0a, 0x7f}, 5<<20)
	conns, end := b.dialMany(t, 1, grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallSendMsgSize(1<<30)))
	for _, m := range []string{onlinkv1.Admin_ChangeConfig_FullMethodName, onlinkv1.Admin_Announce_FullMethodName, onlinkv1.Admin_GetStatus_FullMethodName} {
		var reply []byte
		if err := conns[0].Invoke(t.Context(), m, large, &reply); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: %v", m, err)
		}
	}
	return end
}

// randomMessages calls every method of one answer with bytes that are no message, or a
// message of chance: none may end the agent.
func randomMessages(t *testing.T, b *besieged) (end func()) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	conns, end := b.dialMany(t, 1, grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	waits := []string{onlinkv1.Admin_Drain_FullMethodName, onlinkv1.Admin_Undrain_FullMethodName}
	var names []string
	for _, d := range []grpc.ServiceDesc{onlinkv1.Admin_ServiceDesc, onlinkv1.Runtime_ServiceDesc, onlinkv1.Nodes_ServiceDesc} {
		for _, m := range d.Methods {
			names = append(names, "/"+d.ServiceName+"/"+m.MethodName)
		}
	}
	for _, name := range names {
		if slices.Contains(waits, name) {
			continue // for announcements, which nothing makes here
		}
		for range 50 {
			message := make([]byte, rnd.IntN(200))
			for i := range message {
				message[i] = byte(rnd.Uint32())
				if rnd.IntN(3) > 0 { // often a field of a small number with a short text
					message[i] = []byte{0x0a, 0x12, 0x1a, 0x08, 0x10, 0x02, 'a', '1', '.', '/'}[rnd.IntN(10)]
				}
			}
			var reply []byte
			if err := conns[0].Invoke(t.Context(), name, message, &reply); status.Code(err) == codes.Unavailable {
				t.Fatalf("%s with %x: %v", name, message, err)
			}
		}
	}
	return end
}

// halfCalls begins calls that never end, more than the server admits.
func halfCalls(t *testing.T, b *besieged) (end func()) {
	t.Helper()
	conns, end := b.dialMany(t, 20)
	for _, conn := range conns {
		for range maxStreams {
			stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, onlinkv1.Admin_ChangeConfig_FullMethodName, grpc.ForceCodec(raw{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(make([]byte, 4096)); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
	}
	return end
}

// TestCalls: the calls of one caller are bounded, those of others and of root go on,
// and an ended one makes room.
func TestCalls(t *testing.T) {
	b := newBound("calls", 5, 3)
	begin := func(key string, want int) (ends []func()) {
		t.Helper()
		for range 10 {
			if end, err := b.begin(&visitor{name: key, key: key, root: key == "uid 0"}); err == nil {
				ends = append(ends, end)
			} else if status.Code(err) != codes.ResourceExhausted {
				t.Error(err)
			}
		}
		if len(ends) != want {
			t.Errorf("%s has %d calls, want %d", key, len(ends), want)
		}
		return ends
	}
	first := begin("a", 3)
	begin("b", 2)
	begin("c", 0)
	root := begin("uid 0", 3)
	first[0]()
	begin("c", 1)
	for _, end := range root {
		end()
	}
	begin("uid 0", 3)
	if b.sum != 5 {
		t.Errorf("%d are counted", b.sum)
	}
}

// stuck is a stream whose reader takes nothing.
type stuck struct {
	grpc.ServerStream

	gone chan struct{}
}

func (s stuck) SendMsg(any) error {
	<-s.gone
	return io.EOF
}

// TestSlowReader: a reader that takes nothing for a while is dropped; one that is slow
// and reads stays.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan struct{})
		began := time.Now()
		wantCode(t, (&admitted{ServerStream: stuck{gone: gone}}).SendMsg(nil), codes.ResourceExhausted)
		if waited := time.Since(began); waited != patience {
			t.Errorf("dropped after %v", waited)
		}
		go func() {
			time.Sleep(patience - time.Second)
			close(gone)
		}()
		if err := (&admitted{ServerStream: stuck{gone: gone}}).SendMsg(nil); !errors.Is(err, io.EOF) {
			t.Errorf("a slow reader: %v, want what the stream returns", err)
		}
	})
}
