package hostile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Peer is a hand-made BGP speaker on one TCP connection.
type Peer struct {
	Conn net.Conn
	Addr netip.Addr // ours
}

// Message types (RFC 4271 section 4.1).
const (
	open         = 1
	notification = 3
	keepalive    = 4
)

// What becomes of the attack's route in a session that survives it.
const (
	Used      = "used"      // the fault was ignored, or left out
	Withdrawn = "withdrawn" // treat-as-withdraw

	// Closed is an end without a NOTIFICATION.
	Closed = "closed"
)

// Any is the Want of an attack of which only this is known: it harms nobody
// else, and when the attacker closes its half the speaker closes the rest.
const Any = "any"

// Connect opens a TCP connection and reads the speaker's OPEN. Everything on it
// must be over within patience.
func Connect(ctx context.Context, local netip.Addr, speaker netip.AddrPort, patience time.Duration) (*Peer, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), Timeout: patience}
	c, err := d.DialContext(ctx, "tcp", speaker.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	p := &Peer{Conn: c, Addr: local}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	typ, _, err := ReadMessage(c)
	if err == nil && typ == open {
		return p, nil
	}
	return nil, errors.Join(fmt.Errorf("no OPEN: type %d: %w", typ, err), c.Close())
}

// Send writes one message of the given type. That it cannot, because the
// session is over, is seen when its end is read.
func (p *Peer) Send(typ byte, body []byte) {
	msg := make([]byte, 16, 19+len(body))
	for i := range msg {
		msg[i] = 0xff
	}
	msg = binary.BigEndian.AppendUint16(msg, uint16(19+len(body))) //nolint:gosec // a message of at most 64 kB
	_, _ = p.Conn.Write(append(append(msg, typ), body...))
}

// Stay keeps the session up, without any deadline, until Conn is closed or the
// speaker ends it. The channel then tells how it ended.
func (p *Peer) Stay(hold time.Duration) <-chan string {
	ended := make(chan string, 1)
	_ = p.Conn.SetDeadline(time.Time{}) // a closed connection is seen when it is read
	done := make(chan struct{})
	go func() {
		ended <- p.Closing()
		close(done)
	}()
	go func() {
		beat := time.NewTicker(hold / 3)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				p.Send(keepalive, nil)
			case <-done:
				return
			}
		}
	}()
	return ended
}

// end closes our half and is Any when the speaker closes the other.
func (p *Peer) end() string {
	if tcp, ok := p.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // it may be over
	}
	_, err := io.Copy(io.Discard, p.Conn)
	if err != nil && !strings.Contains(err.Error(), "reset by peer") {
		return err.Error()
	}
	return Any
}

// Closing is how the session ends: with a NOTIFICATION ("3/1"), or Closed for an
// end without one.
func (p *Peer) Closing() string {
	for {
		if end := p.next(); end != "" && end != Used {
			return end
		}
	}
}

// Answer is Used when the speaker took the OPEN, or else how it closes.
func (p *Peer) Answer() string {
	for {
		if end := p.next(); end != "" {
			return end
		}
	}
}

// next reads one message: "" for one that ends nothing, Used for a KEEPALIVE.
func (p *Peer) next() string {
	typ, body, err := ReadMessage(p.Conn)
	switch {
	case err == nil && typ == keepalive:
		return Used
	case err == nil && typ == notification && len(body) >= 2:
		return fmt.Sprintf("%d/%d", body[0], body[1])
	case err == nil:
		return ""
	case errors.Is(err, io.EOF), strings.Contains(err.Error(), "reset by peer"):
		return Closed
	}
	return err.Error()
}

// ReadMessage reads one BGP message.
func ReadMessage(r io.Reader) (typ byte, body []byte, err error) {
	head := make([]byte, 19)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(head[16:])) - 19
	if n < 0 {
		return 0, nil, fmt.Errorf("length %d", n+19) //nolint:err113 // for a test's log
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return head[18], body, err
}
