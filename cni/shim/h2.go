package shim

import "strconv"

// Frame types and flags (RFC 9113 section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameRstStream    = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1 // DATA, HEADERS
	flagAck        = 0x1 // SETTINGS, PING
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113 section 6.5.2).
const (
	settingEnablePush    = 0x2
	settingInitialWindow = 0x4
	settingMaxFrame      = 0x5
)

const (
	preface      = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	streamID     = 1       // the only stream we open
	maxFrame     = 16384   // SETTINGS_MAX_FRAME_SIZE of both sides until changed
	firstWindow  = 65535   // both windows until changed
	ourWindow    = 4 << 20 // bytes that the agent may send us before a window update
	maxReply     = 4 << 20 // bytes of one answer
	maxHeaders   = 64 << 10
	maxWindow    = 1<<31 - 1
	frameHeadLen = 9
	// leastAnswer is less than any answer with the settings and their
	// acknowledgement before it: three frames, a status, a content type and a
	// gRPC status. Those of grpc-go arrive as 34, 9 and about 70 bytes.
	leastAnswer = 44
)

// Errors of the protocol: the agent broke RFC 9113, or the socket is not the
// agent's.
const (
	errFrameSize  textError = "http2: frame size error"
	errProtocol   textError = "http2: protocol error"
	errWindow     textError = "http2: flow control error"
	errHeaderSize textError = "http2: header block too large"
	errReplySize  textError = "answer too large"
	errGoAway     textError = "agent is shutting down"
)

// h2 is the client side of an HTTP/2 connection that carries one call.
type h2 struct {
	m   *Memory
	s   socket
	out []byte // frames to send with the next write

	rest    []byte // of the request, not queued yet
	asked   bool   // all of the request was queued
	head    [frameHeadLen]byte
	payload []byte // of the current frame

	connWindow   int // bytes of DATA that the agent accepts from us, on the connection
	streamWindow int // the same, on the stream
	peerInitial  int // the agent's SETTINGS_INITIAL_WINDOW_SIZE
	peerFrame    int // the agent's SETTINGS_MAX_FRAME_SIZE

	hpack   decoder
	block   []byte // header block being assembled
	ends    bool   // the block under assembly ends the stream
	inBlock bool   // the next frame must be CONTINUATION

	call answer
}

// newH2 returns the connection in m, made ready for one call.
func newH2(m *Memory) *h2 {
	h := &m.h2
	h.m = m
	h.connWindow, h.streamWindow = firstWindow, firstWindow
	h.peerInitial, h.peerFrame = firstWindow, maxFrame
	h.hpack.limit = hpackTable
	h.hpack.dynamic = h.hpack.first[:0]
	return h
}

// ask queues one gRPC call. It needs no connection yet: connecting wakes the
// agent, and the request must be there then.
func (h *h2) ask(path string, r request) {
	message := h.m.take(5 + r.size())[:5] // the first byte: not compressed
	message = r.append(message)
	putBE32(message[1:], uint32(len(message)-5))

	h.out = h.m.take(512 + min(len(message), firstWindow))
	h.out = append(h.out, preface...)
	h.appendFrame(frameSettings, 0, 0, []byte{
		0, settingEnablePush, 0, 0, 0, 0,
		0, settingInitialWindow, byte(ourWindow >> 24), byte(ourWindow >> 16 & 0xff), byte(ourWindow >> 8 & 0xff), byte(ourWindow & 0xff),
	})
	h.appendFrame(frameWindowUpdate, 0, 0, appendBE32(nil, ourWindow-firstWindow))
	h.appendFrame(frameHeaders, flagEndHeaders, streamID, h.requestHeaders(path))
	h.rest = message
	h.queue()
}

// answer sends the queued call and returns the message of the agent's answer. The
// agent may answer before it has read the whole request: then the rest is not
// sent.
func (h *h2) answer() ([]byte, error) {
	h.s.least = 1
	if h.asked {
		h.s.least = leastAnswer
	}
	for !h.call.done {
		if err := h.receive(); err != nil && !h.call.done {
			return nil, err
		}
		h.queue()
	}
	return h.call.message()
}

func (h *h2) requestHeaders(path string) []byte {
	b := []byte{0x80 | 3, 0x80 | 6} // :method POST, :scheme http
	b = appendLiteral(b, 4, ":path", path)
	b = appendLiteral(b, 1, ":authority", "localhost")
	b = appendLiteral(b, 31, "content-type", "application/grpc")
	b = appendLiteral(b, 0, "te", "trailers")
	return appendLiteral(b, 0, "grpc-timeout", h.s.timeoutHeader())
}

// queue puts as much of the request's message into DATA frames as the agent's
// windows allow.
func (h *h2) queue() {
	for !h.asked {
		n := min(len(h.rest), h.connWindow, h.streamWindow, h.peerFrame)
		if n <= 0 { // a message is never empty
			return
		}
		var flags byte
		if n == len(h.rest) {
			flags, h.asked = flagEndStream, true
		}
		h.appendFrame(frameData, flags, streamID, h.rest[:n])
		h.connWindow -= n
		h.streamWindow -= n
		h.rest = h.rest[n:]
	}
}

func (h *h2) appendFrame(kind, flags byte, stream uint32, payload []byte) {
	n := len(payload)
	h.out = append(h.out, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	h.out = appendBE32(h.out, stream)
	h.out = append(h.out, payload...)
}

// flush sends the queued frames. A failed write is not the end: an agent that
// answers early and closes leaves its answer for us to read.
func (h *h2) flush() error {
	if len(h.out) == 0 {
		return nil
	}
	err := h.s.write(h.out)
	h.out = h.out[:0]
	if err == errTimeout { //nolint:errorlint // a constant
		return err
	}
	return nil
}

// receive reads one frame and acts on it. It sends the queued frames before it
// waits for a frame.
func (h *h2) receive() error {
	if !h.s.buffered() {
		if err := h.flush(); err != nil {
			return err
		}
	}
	if err := h.s.read(h.head[:]); err != nil {
		return err
	}
	n := int(h.head[0])<<16 | int(h.head[1])<<8 | int(h.head[2])
	if n > maxFrame {
		return errFrameSize
	}
	if cap(h.payload) < n {
		h.payload = h.m.take(max(n, 512))
	}
	h.payload = h.payload[:n]
	if err := h.s.read(h.payload); err != nil {
		return err
	}
	stream := be32(h.head[5:]) & maxWindow
	return h.frame(h.head[3], h.head[4], stream, h.payload)
}

// frame acts on one frame.
func (h *h2) frame(kind, flags byte, stream uint32, p []byte) error {
	if h.inBlock != (kind == frameContinuation) {
		return errProtocol // section 6.10
	}
	switch kind {
	case frameData, frameHeaders, frameContinuation, frameRstStream:
		if stream != streamID {
			return errProtocol
		}
	case frameSettings, framePing, frameGoAway:
		if stream != 0 {
			return errProtocol
		}
	}
	switch kind {
	case frameData:
		return h.data(flags, p)
	case frameHeaders:
		return h.headers(flags, p)
	case frameContinuation:
		return h.fragment(flags, p)
	case frameSettings:
		return h.settings(flags, p)
	case frameWindowUpdate:
		return h.windowUpdate(stream, p)
	case frameRstStream:
		return h.reset(p)
	case framePing:
		if len(p) != 8 {
			return errFrameSize
		}
		if flags&flagAck == 0 {
			h.appendFrame(framePing, flagAck, 0, p)
		}
	case frameGoAway:
		return h.goAway(p)
	case framePushPromise:
		return errProtocol // SETTINGS_ENABLE_PUSH is 0
	}
	return nil // section 5.5: unknown frame types are ignored
}

// unpad removes padding (section 6.1).
func unpad(flags byte, p []byte) ([]byte, error) {
	if flags&flagPadded == 0 {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, errProtocol
	}
	return p[1 : len(p)-int(p[0])], nil
}

// data stores a part of the answer. Our windows are larger than the largest
// answer, so they are never replenished.
func (h *h2) data(flags byte, p []byte) error {
	p, err := unpad(flags, p)
	if err != nil {
		return err
	}
	if !h.call.started || h.call.done {
		return errProtocol
	}
	if len(h.call.body)+len(p) > maxReply {
		return errReplySize
	}
	h.call.body = append(h.call.body, p...)
	if flags&flagEndStream != 0 {
		h.call.done = true // without trailers: message() refuses it
	}
	return nil
}

func (h *h2) headers(flags byte, p []byte) error {
	p, err := unpad(flags, p)
	if err != nil {
		return err
	}
	if flags&flagPriority != 0 {
		if len(p) < 5 {
			return errFrameSize
		}
		p = p[5:]
	}
	h.block = h.block[:0]
	h.ends = flags&flagEndStream != 0
	return h.fragment(flags, p)
}

func (h *h2) fragment(flags byte, p []byte) error {
	if len(h.block)+len(p) > maxHeaders {
		return errHeaderSize
	}
	h.block = append(h.block, p...)
	h.inBlock = flags&flagEndHeaders == 0
	if h.inBlock {
		return nil
	}
	fields, err := h.hpack.block(h.block)
	if err != nil {
		return err
	}
	return h.call.header(fields, h.ends)
}

func (h *h2) settings(flags byte, p []byte) error {
	if flags&flagAck != 0 {
		if len(p) != 0 {
			return errFrameSize
		}
		return nil
	}
	if len(p)%6 != 0 {
		return errFrameSize
	}
	for ; len(p) > 0; p = p[6:] {
		value := int(be32(p[2:]))
		switch int(p[0])<<8 | int(p[1]) {
		case settingInitialWindow:
			if value > maxWindow {
				return errWindow
			}
			h.streamWindow += value - h.peerInitial // section 6.9.2: may go below zero
			h.peerInitial = value
		case settingMaxFrame:
			if value < maxFrame || value > 1<<24-1 {
				return errProtocol
			}
			h.peerFrame = value
		}
	}
	h.appendFrame(frameSettings, flagAck, 0, nil)
	return nil
}

func (h *h2) windowUpdate(stream uint32, p []byte) error {
	if len(p) != 4 {
		return errFrameSize
	}
	n := int(be32(p) & maxWindow)
	window := &h.connWindow
	if stream != 0 {
		window = &h.streamWindow
	}
	if n == 0 {
		return errProtocol
	}
	if *window += n; *window > maxWindow {
		return errWindow
	}
	return nil
}

// reset ends the call. NO_ERROR after a complete answer only means that the agent
// does not need the rest of the request (section 8.1), and then this is not
// called.
func (h *h2) reset(p []byte) error {
	if len(p) != 4 {
		return errFrameSize
	}
	return textError("http2: stream reset by the agent, error code " + strconv.Itoa(int(be32(p))))
}

// goAway ends the call unless the agent still serves our stream (section 6.8).
func (h *h2) goAway(p []byte) error {
	if len(p) < 8 {
		return errFrameSize
	}
	if be32(p)&maxWindow >= streamID && be32(p[4:]) == 0 {
		return nil
	}
	return errGoAway
}

// be32 reads a number in network byte order. Package encoding/binary would
// bring in reflection.
func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func putBE32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
}

func appendBE32(b []byte, v uint32) []byte {
	return append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}
