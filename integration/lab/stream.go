package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Stream is one TCP connection that carries pseudo-random bytes until it is
// stopped, while something else happens. A reset or a stall ends it with an
// error.
type Stream struct {
	conn     net.Conn
	listener net.Listener
	pace     time.Duration
	stop     chan struct{}
	sent     chan error // receives send's result
	received chan error // receives receive's result
	arrived  atomic.Int64
	sumSent  hash.Hash
	sumGot   hash.Hash
}

// chunk is what a Stream writes at once.
const chunk = 16 << 10

// StartStream opens the connection and starts sending 16 KiB every 5 ms, about
// 3 MB/s: enough to see a stall, little enough for a slow machine.
func StartStream(ctx context.Context, from, to *NS, dst netip.Addr) (*Stream, error) {
	listener, err := to.listenTCP(ctx, dst)
	if err != nil {
		return nil, err
	}
	s := &Stream{
		listener: listener, pace: 5 * time.Millisecond, stop: make(chan struct{}),
		sent: make(chan error, 1), received: make(chan error, 1),
		sumSent: sha256.New(), sumGot: sha256.New(),
	}
	go func() { s.received <- s.receive() }()
	if s.conn, err = from.Dial(ctx, "tcp", listener.Addr().String()); err != nil {
		listener.Close()
		return nil, err
	}
	go func() { s.sent <- s.send() }()
	return s, nil
}

// send writes until stopped, then closes its half of the connection.
func (s *Stream) send() error {
	tick := time.NewTicker(s.pace)
	defer tick.Stop()
	out := io.MultiWriter(s.conn, s.sumSent)
	random := randomStream(1)
	for {
		if err := s.conn.SetWriteDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		if _, err := io.CopyN(out, random, chunk); err != nil {
			return fmt.Errorf("send stream: %w", err)
		}
		select {
		case <-s.stop:
			return s.conn.(*net.TCPConn).CloseWrite()
		case <-tick.C:
		}
	}
}

// receive reads until the other end closes.
func (s *Stream) receive() error {
	conn, err := s.listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 64<<10)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		n, err := conn.Read(buf)
		s.sumGot.Write(buf[:n])
		s.arrived.Add(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive stream: %w", err)
		}
	}
}

// Bytes returns how much has arrived.
func (s *Stream) Bytes() int64 { return s.arrived.Load() }

// Stop ends the stream and returns how many bytes arrived; an error when the
// connection broke or the bytes differ.
func (s *Stream) Stop() (int64, error) {
	close(s.stop)
	err := <-s.sent
	if err != nil {
		s.conn.Close() // wakes up the receiver
	}
	err = errors.Join(err, <-s.received)
	s.conn.Close()
	s.listener.Close()
	if err == nil && !bytes.Equal(s.sumSent.Sum(nil), s.sumGot.Sum(nil)) {
		err = fmt.Errorf("stream of %d bytes: %w", s.Bytes(), ErrTransfer)
	}
	return s.Bytes(), err
}
