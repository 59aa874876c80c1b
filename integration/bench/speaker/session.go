package speaker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// ErrNotification is a session that the other side ended with a NOTIFICATION;
// the error names its code and subcode (RFC 4271 section 4.5).
var ErrNotification = errors.New("peer sent a NOTIFICATION")

// openTimeout bounds the handshake of one session.
const openTimeout = 20 * time.Second

// Session is one established session.
type Session struct {
	conn net.Conn
	r    *bufio.Reader
	body [maxMessage]byte
}

// Open connects from src to peer, port 179, and returns when both sides have
// confirmed the session (RFC 4271 section 8.2.2, state Established). The
// socket belongs to the network namespace of the calling thread.
func Open(ctx context.Context, src, peer netip.Addr, asn uint32) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp4", netip.AddrPortFrom(peer, 179).String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s := &Session{conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}
	if err := s.handshake(asn, src); err != nil {
		return nil, fmt.Errorf("open session %s -> %s: %w", src, peer, errors.Join(err, conn.Close()))
	}
	return s, nil
}

func (s *Session) handshake(asn uint32, id netip.Addr) error {
	if err := s.conn.SetDeadline(time.Now().Add(openTimeout)); err != nil {
		return err
	}
	if err := s.Write(appendOpen(nil, asn, id)); err != nil {
		return err
	}
	for confirmed := false; !confirmed; {
		typ, _, err := s.read()
		if err != nil {
			return err
		}
		switch typ {
		case typeOpen:
			if err := s.Keepalive(); err != nil {
				return err
			}
		case typeKeepalive:
			confirmed = true
		}
	}
	return s.conn.SetDeadline(time.Time{})
}

// Write sends encoded messages.
func (s *Session) Write(b []byte) error {
	_, err := s.conn.Write(b)
	return err
}

// Keepalive sends a KEEPALIVE; one is due every 60 s.
func (s *Session) Keepalive() error { return s.Write(appendKeepalive(nil)) }

// Close ends the session.
func (s *Session) Close() error { return s.conn.Close() }

// Receive calls each for every announced prefix until the session ends, and
// returns why it did; the error wraps net.ErrClosed after Close.
func (s *Session) Receive(each func(netip.Prefix)) error {
	return s.Follow(each, func(netip.Prefix) {})
}

// Follow is Receive that calls gone for every withdrawn prefix.
func (s *Session) Follow(each, gone func(netip.Prefix)) error {
	for {
		typ, body, err := s.read()
		if err != nil {
			return err
		}
		if typ == typeUpdate {
			withdrawn(body, gone)
			announced(body, each)
		}
	}
}

// Maintain sends keepalives and drops what is received until ctx or the
// session ends.
func (s *Session) Maintain(ctx context.Context) {
	go func() { _ = s.Receive(func(netip.Prefix) {}) }() // ends with the connection
	s.KeepUp(ctx)
}

// KeepUp sends keepalives until ctx or the session ends.
func (s *Session) KeepUp(ctx context.Context) {
	tick := time.NewTicker(holdTime / 6 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if s.Keepalive() != nil {
				return
			}
		}
	}
}

// read returns the next message; body is valid until the next call.
func (s *Session) read() (typ byte, body []byte, err error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(s.r, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(h[16:])) - headerLen
	if n < 0 || n > len(s.body) {
		return 0, nil, fmt.Errorf("message length %d", n+headerLen)
	}
	body = s.body[:n]
	if _, err := io.ReadFull(s.r, body); err != nil {
		return 0, nil, err
	}
	if h[18] == typeNotification && n >= 2 {
		return 0, nil, fmt.Errorf("%w: code %d subcode %d", ErrNotification, body[0], body[1])
	}
	return h[18], body, nil
}
