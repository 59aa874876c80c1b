package shim

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// script starts a server that discards its input, sends b, and closes.
func script(t testing.TB, path string, b []byte) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		read := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, conn); close(read) }()
		_, _ = conn.Write(b)
		_ = conn.(*net.UnixConn).CloseWrite()
		<-read
		_ = conn.Close()
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

func frame(kind, flags byte, stream byte, payload string) string {
	n := len(payload)
	return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, stream}) + payload
}

func headers(pairs ...string) string {
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return b.String()
}

// Pieces of a correct answer: the message is field 1 "hi".
var (
	settings  = frame(frameSettings, 0, 0, "")
	reply     = "\x00\x00\x00\x00\x04\x0a\x02hi"
	started   = headers(":status", "200", "content-type", "application/grpc")
	good      = frame(frameHeaders, flagEndHeaders, 1, started)
	okTrailer = frame(frameHeaders, flagEndHeaders|flagEndStream, 1, headers("grpc-status", "0"))
)

// TestFrames sends the client correct and broken sequences of frames.
func TestFrames(t *testing.T) {
	tests := []struct {
		name string
		send string
		want string // the answer
		err  string // part of the error
	}{
		{"plain", settings + good + frame(frameData, 0, 1, reply) + okTrailer, "hi", ""},
		{"data in pieces", settings + good + frame(frameData, 0, 1, reply[:3]) + frame(frameData, 0, 1, "") + frame(frameData, 0, 1, reply[3:]) + okTrailer, "hi", ""},
		{"padding and priority", settings + frame(frameHeaders, flagEndHeaders|flagPadded|flagPriority, 1, "\x02\x00\x00\x00\x00\x10"+started+"\x00\x00") +
			frame(frameData, flagPadded, 1, "\x03"+reply+"\x00\x00\x00") + okTrailer, "hi", ""},
		{"continuation", settings + frame(frameHeaders, 0, 1, started[:4]) + frame(frameContinuation, 0, 1, started[4:5]) +
			frame(frameContinuation, flagEndHeaders, 1, started[5:]) + frame(frameData, 0, 1, reply) + okTrailer, "hi", ""},
		{"ping, unknown frame, goaway that spares us", settings + frame(framePing, 0, 0, "12345678") + frame(0xee, 0xff, 7, "?") +
			frame(frameGoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00") + good + frame(frameData, 0, 1, reply) + okTrailer, "hi", ""},
		{"reset after the answer", settings + good + frame(frameData, 0, 1, reply) + okTrailer + frame(frameRstStream, 0, 1, "\x00\x00\x00\x00"), "hi", ""},
		{"windows", settings + frame(frameWindowUpdate, 0, 0, "\x00\x00\x10\x00") + frame(frameWindowUpdate, 0, 1, "\x00\x00\x10\x00") +
			frame(frameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00") + frame(frameSettings, flagAck, 0, "") + good + frame(frameData, 0, 1, reply) + okTrailer, "hi", ""},

		{"nothing", "", "", "closed the connection"},
		{"HTTP/1.1", "HTTP/1.1 400 Bad Request\r\n\r\n", "", "http2: frame size error"},
		{"no trailers", settings + good + frame(frameData, flagEndStream, 1, reply), "", "no grpc-status"},
		{"status that is no number", settings + frame(frameHeaders, flagEndHeaders|flagEndStream, 1, headers(":status", "200", "grpc-status", "x")), "", "no grpc-status"},
		{"HTTP error", settings + frame(frameHeaders, flagEndHeaders|flagEndStream, 1, headers(":status", "503")), "", "http status 503"},
		{"status only", settings + frame(frameHeaders, flagEndHeaders|flagEndStream, 1, headers(":status", "200", "grpc-status", "5", "grpc-message", "a%20b%zz")), "", "grpc status 5: a b%zz"},
		{"OK without message", settings + frame(frameHeaders, flagEndHeaders|flagEndStream, 1, headers(":status", "200", "grpc-status", "0")), "", "no complete message"},
		{"short message", settings + good + frame(frameData, 0, 1, reply[:6]) + okTrailer, "", "no complete message"},
		{"compressed", settings + good + frame(frameData, 0, 1, "\x01"+reply[1:]) + okTrailer, "", "compressed"},
		{"reset", settings + frame(frameRstStream, 0, 1, "\x00\x00\x00\x08"), "", "error code 8"},
		{"goaway", settings + frame(frameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00"), "", "shutting down"},
		{"goaway with error", settings + frame(frameGoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x01"), "", "shutting down"},
		{"data before headers", settings + frame(frameData, 0, 1, reply), "", "protocol error"},
		{"data on another stream", settings + good + frame(frameData, 0, 3, reply), "", "protocol error"},
		{"frame between header frames", settings + frame(frameHeaders, 0, 1, started) + settings, "", "protocol error"},
		{"continuation of nothing", settings + frame(frameContinuation, flagEndHeaders, 1, started), "", "protocol error"},
		{"second headers without end", settings + good + good, "", "protocol error"},
		{"push", settings + frame(framePushPromise, 0, 1, "\x00\x00\x00\x02"), "", "protocol error"},
		{"settings on a stream", frame(frameSettings, 0, 1, ""), "", "protocol error"},
		{"odd settings", frame(frameSettings, 0, 0, "12345"), "", "frame size"},
		{"settings acknowledgement with content", frame(frameSettings, flagAck, 0, "123456"), "", "frame size"},
		{"initial window too large", frame(frameSettings, 0, 0, "\x00\x04\x80\x00\x00\x00"), "", "flow control"},
		{"frame limit too small", frame(frameSettings, 0, 0, "\x00\x05\x00\x00\x00\x01"), "", "protocol error"},
		{"window update of zero", settings + frame(frameWindowUpdate, 0, 0, "\x00\x00\x00\x00"), "", "protocol error"},
		{"window overflow", settings + frame(frameWindowUpdate, 0, 0, "\x7f\xff\xff\xff"), "", "flow control"},
		{"short ping", settings + frame(framePing, 0, 0, "1"), "", "frame size"},
		{"short reset", settings + frame(frameRstStream, 0, 1, "1"), "", "frame size"},
		{"short goaway", settings + frame(frameGoAway, 0, 0, "1"), "", "frame size"},
		{"short window update", settings + frame(frameWindowUpdate, 0, 0, "1"), "", "frame size"},
		{"short priority", settings + frame(frameHeaders, flagEndHeaders|flagPriority, 1, "1"), "", "frame size"},
		{"padding longer than the frame", settings + good + frame(frameData, flagPadded, 1, "\x05ab"), "", "protocol error"},
		{"frame too large", "\x00\x40\x01\x00\x00\x00\x00\x00\x01", "", "frame size"},
		{"header block too large", settings + frame(frameHeaders, 0, 1, strings.Repeat("\x00", 16384)) + strings.Repeat(frame(frameContinuation, 0, 1, strings.Repeat("\x00", 16384)), 4), "", "header block too large"},
		{"bad header block", settings + frame(frameHeaders, flagEndHeaders, 1, "\x80"), "", "hpack"},
		{"cut off frame", settings + good[:12], "", "closed the connection"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := socketPath(t)
			script(t, path, []byte(tt.send))
			out, _, err := callAdd(path, request{containerID: "x"})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %q, %v; want error %q", out, err, tt.err)
				}
				return
			}
			if err != nil || string(out) != tt.want {
				t.Errorf("got %q, %v; want %q", out, err, tt.want)
			}
		})
	}
}

// TestReplySize ends a call whose answer never does.
func TestReplySize(t *testing.T) {
	path := socketPath(t)
	script(t, path, []byte(settings+good+strings.Repeat(frame(frameData, 0, 1, strings.Repeat("x", 16384)), maxReply/16384+1)))
	if _, _, err := callAdd(path, request{}); !errors.Is(err, errReplySize) {
		t.Errorf("got %v", err)
	}
}

// FuzzFrames feeds frames to the client without a socket: it must neither panic
// nor accept other bytes than an answer.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(settings + good + frame(frameData, 0, 1, reply) + okTrailer))
	f.Add([]byte(frame(frameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00") + frame(frameHeaders, 0, 1, started)))
	f.Fuzz(func(_ *testing.T, b []byte) {
		h := newH2(new(Memory))
		for len(b) >= frameHeadLen && !h.call.done {
			n := min(int(b[0])<<16|int(b[1])<<8|int(b[2]), len(b)-frameHeadLen)
			if h.frame(b[3], b[4], be32(b[5:])&maxWindow, b[frameHeadLen:frameHeadLen+n]) != nil {
				break
			}
			b = b[frameHeadLen+n:]
		}
		if body, err := h.call.message(); err == nil {
			_, _, _ = parseReply(body)
		}
	})
}
