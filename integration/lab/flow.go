package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long a stopped flow waits for the last replies at most: they
// may be in the queues of a machine with other things to do.
const settle = 15 * time.Second

// PingFlow is a stream of numbered UDP datagrams that the far end sends back:
// what is lost, doubled or delayed while something else happens.
type PingFlow struct {
	conn   *net.UDPConn // sends and receives
	echo   *net.UDPConn // the far end
	stop   chan struct{}
	sender chan struct{} // closed by send at its end
	reader chan struct{} // closed by receive at its end
	mirror chan struct{} // closed by reflect at its end

	mu     sync.Mutex // guards the fields below
	sent   uint64
	seen   []uint64 // bitmap of sequence numbers that came back
	back   uint64   // different numbers that came back
	twice  uint64
	last   time.Time     // the last reply
	outage time.Duration // longest time between two replies
	err    error
}

// FlowReport is the result of a [PingFlow].
type FlowReport struct {
	Sent, Lost, Duplicates uint64
	Outage                 time.Duration // longest time between two replies
}

// String is one line for people.
func (r FlowReport) String() string {
	return fmt.Sprintf("%d sent, %d lost, %d duplicates, longest gap %s", r.Sent, r.Lost, r.Duplicates, r.Outage.Round(time.Millisecond))
}

// StartPingFlow sends up to rate datagrams a second (at most 1000; a late timer
// makes it fewer) from one namespace to an address of another.
func StartPingFlow(from, to *NS, dst netip.Addr, rate int) (*PingFlow, error) {
	if rate < 1 || rate > 1000 {
		return nil, fmt.Errorf("start flow to %s: rate %d: use 1 to 1000 a second", dst, rate)
	}
	f := &PingFlow{
		stop: make(chan struct{}), sender: make(chan struct{}),
		reader: make(chan struct{}), mirror: make(chan struct{}), last: time.Now(),
	}
	err := to.Do(func() (err error) {
		f.echo, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 0)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open far end of flow in %s: %w", to.Name, err)
	}
	err = from.Do(func() (err error) {
		f.conn, err = net.DialUDP("udp", nil, f.echo.LocalAddr().(*net.UDPAddr))
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open flow in %s: %w", from.Name, err), f.echo.Close())
	}
	// A slow machine may leave either end alone for a while; that is no loss.
	if err := errors.Join(deepen(f.conn), deepen(f.echo)); err != nil {
		return nil, errors.Join(fmt.Errorf("open flow in %s: %w", from.Name, err), f.conn.Close(), f.echo.Close())
	}
	go f.reflect()
	go f.receive()
	go f.send(time.Second / time.Duration(rate))
	return f, nil
}

// deepen gives a socket room for seconds of datagrams, whatever
// net.core.rmem_max says: one dropped at a full socket would look like one
// lost on the way.
func deepen(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	})
	return errors.Join(err, optErr)
}

// reflect is the far end.
func (f *PingFlow) reflect() {
	defer close(f.mirror)
	buf := make([]byte, 64)
	for {
		n, from, err := f.echo.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			// An error here (no route for a moment) is a lost packet, which
			// the near end counts.
			_, _ = f.echo.WriteToUDPAddrPort(buf[:n], from)
		}
	}
}

// maxBurst is how many datagrams may make up for a late timer. The kernel's
// own queues (a device's, a neighbour's) are short, and a burst that only this
// program made must not overrun them.
const maxBurst = 32

// send writes numbered datagrams at a steady rate until stopped.
func (f *PingFlow) send(every time.Duration) {
	defer close(f.sender)
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := time.Now()
	var buf [8]byte
	for next := uint64(0); ; {
		now := time.Now()
		due := next + min(uint64(now.Sub(last)/every), maxBurst)
		if due > next {
			last = now
		}
		for ; next < due; next++ {
			binary.BigEndian.PutUint64(buf[:], next)
			_, err := f.conn.Write(buf[:])
			f.mu.Lock()
			f.sent++
			f.err = errors.Join(f.err, err)
			f.mu.Unlock()
			if err != nil {
				return
			}
		}
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
	}
}

// receive counts what comes back.
func (f *PingFlow) receive() {
	defer close(f.reader)
	buf := make([]byte, 64)
	for {
		n, err := f.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != 8 {
			continue // an ICMP error for an earlier datagram: that one is lost
		}
		f.count(binary.BigEndian.Uint64(buf))
	}
}

func (f *PingFlow) count(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.outage = max(f.outage, now.Sub(f.last))
	f.last = now
	word, bit := seq/64, uint64(1)<<(seq%64)
	for uint64(len(f.seen)) <= word {
		f.seen = append(f.seen, 0)
	}
	if f.seen[word]&bit != 0 {
		f.twice++
		return
	}
	f.seen[word] |= bit
	f.back++
}

// Report returns the numbers so far; datagrams still under way count as lost.
func (f *PingFlow) Report() FlowReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return FlowReport{Sent: f.sent, Lost: f.sent - f.back, Duplicates: f.twice, Outage: f.outage}
}

// WaitFor blocks until n more datagrams came back.
func (f *PingFlow) WaitFor(ctx context.Context, n uint64) error {
	return f.WaitForWithin(ctx, n, time.Minute)
}

// WaitForWithin is WaitFor with another limit than a minute.
func (f *PingFlow) WaitForWithin(ctx context.Context, n uint64, limit time.Duration) error {
	start := f.Report()
	return Eventually(ctx, limit, fmt.Sprintf("%d more replies of the flow", n), func() error {
		now := f.Report()
		if got := (now.Sent - now.Lost) - (start.Sent - start.Lost); got < n {
			return fmt.Errorf("%d replies", got)
		}
		return nil
	})
}

// Stop ends the flow, waits for the last replies and returns the result.
func (f *PingFlow) Stop(ctx context.Context) (FlowReport, error) {
	close(f.stop)
	<-f.sender
	// Not an error: what has not come back is what the report says.
	_ = Eventually(ctx, settle, "last replies of the flow", func() error {
		if lost := f.Report().Lost; lost > 0 {
			return fmt.Errorf("%d missing", lost)
		}
		return nil
	})
	closed := errors.Join(f.conn.Close(), f.echo.Close())
	<-f.reader
	<-f.mirror
	f.mu.Lock()
	err := errors.Join(f.err, closed)
	f.mu.Unlock()
	if err != nil {
		return f.Report(), fmt.Errorf("run flow: %w", err)
	}
	return f.Report(), nil
}
