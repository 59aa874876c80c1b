package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// Transfer sends size pseudo-random bytes by TCP from one namespace to an
// address of another, and compares the SHA-256 sums of both ends. It returns
// how long it took.
func Transfer(ctx context.Context, from, to *NS, dst netip.Addr, size int64) (time.Duration, error) {
	began := time.Now()
	if err := transfer(ctx, from, to, dst, size); err != nil {
		return 0, fmt.Errorf("send %d bytes from %s to %s (%s): %w", size, from.Name, dst, to.Name, err)
	}
	return time.Since(began), nil
}

func transfer(ctx context.Context, from, to *NS, dst netip.Addr, size int64) error {
	listener, err := to.listenTCP(ctx, dst)
	if err != nil {
		return err
	}
	defer listener.Close()
	received := make(chan error, 1)
	go func() { received <- answerSum(ctx, listener, size) }()
	conn, err := from.Dial(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(conn, sum), randomStream(uint64(size)), size); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	echoed := make([]byte, sha256.Size)
	if _, err := io.ReadFull(conn, echoed); err != nil {
		return errors.Join(fmt.Errorf("read the checksum: %w", err), <-received)
	}
	if !bytes.Equal(echoed, sum.Sum(nil)) {
		return fmt.Errorf("%w: sent sum %x, received sum %x", ErrTransfer, sum.Sum(nil), echoed)
	}
	return <-received
}

// answerSum takes one connection, reads size bytes and answers with their sum.
func answerSum(ctx context.Context, listener net.Listener, size int64) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, conn, size); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	_, err = conn.Write(sum.Sum(nil))
	return err
}

// listenTCP opens a listener on a free port of an address of the namespace.
func (ns *NS) listenTCP(ctx context.Context, addr netip.Addr) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	var listener net.Listener
	err := ns.Do(func() (err error) {
		listener, err = lc.Listen(ctx, "tcp", netip.AddrPortFrom(addr, 0).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", ns.Name, err)
	}
	return listener, nil
}

// Dial connects from the namespace, as [net.Dialer.DialContext]; address is a literal,
// so the socket is made on the calling thread.
func (ns *NS) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 30 * time.Second}
	dialer.SetMultipathTCP(false)
	var conn net.Conn
	err := ns.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect from %s: %w", ns.Name, err)
	}
	return conn, nil
}

// randomStream returns an endless stream that is the same for the same seed.
func randomStream(seed uint64) io.Reader {
	var key [32]byte
	for i := range key {
		key[i] = byte(seed >> (8 * (i % 8)))
	}
	return rand.NewChaCha8(key)
}

// SendUDP sends one datagram out of the namespace.
func (ns *NS) SendUDP(to netip.AddrPort, payload []byte) error {
	return ns.Do(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		_, err = conn.Write(payload)
		return errors.Join(err, conn.Close())
	})
}
