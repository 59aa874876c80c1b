package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Mesh sends numbered UDP datagrams between all pods, in every family that they
// have, and remembers of each when it was sent and whether its answer came back: what
// was lost, between whom, and when.
type Mesh struct {
	ends  []*meshEnd
	every time.Duration
	stop  chan struct{}
	sends sync.WaitGroup
	reads sync.WaitGroup
}

// Lost is a datagram of a [Mesh] without an answer.
type Lost struct {
	From, To *Pod
	Addr     netip.Addr // of To
	At       time.Time  // when it was sent
}

// String is one line for people.
func (l Lost) String() string {
	return fmt.Sprintf("%s %s to %s", l.At.Format("15:04:05.000"), l.From.Name, l.Addr)
}

// meshEnd is a pod: it asks all others, and answers them.
type meshEnd struct {
	pod   *Pod
	index uint16
	socks []*net.UDPConn // one per address of the pod

	mu    sync.Mutex // guards the fields below
	asked []time.Time
	back  [][][]bool // by address and end: the numbers of asked that came back

	forged atomic.Int64
}

const (
	// MeshPort is where the ends of a mesh listen.
	MeshPort = 7117
	// MeshForged is what no end sends: see [Mesh.Forged].
	MeshForged = "forged"
)

// The first byte of a datagram; the asker's index and the number of the question follow.
const (
	meshAsk    = 'q'
	meshAnswer = 'a'
	meshSize   = 1 + 2 + 2 + 8 // kind, asker, answerer, number
)

// StartMesh begins to send from each pod to each other one, once in a while.
func StartMesh(pods []*Pod, every time.Duration) (*Mesh, error) {
	m := &Mesh{every: every, stop: make(chan struct{})}
	for i, p := range pods {
		e := &meshEnd{pod: p, index: uint16(i), back: make([][][]bool, len(p.Addrs))} //nolint:gosec // few
		m.ends = append(m.ends, e)
		for f, a := range p.Addrs {
			e.back[f] = make([][]bool, len(pods))
			var sock *net.UDPConn
			err := p.NS.Do(func() (err error) {
				sock, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, MeshPort)))
				return err
			})
			if err == nil {
				e.socks = append(e.socks, sock)
				err = deepen(sock)
			}
			if err != nil {
				return nil, errors.Join(fmt.Errorf("open mesh in %s: %w", p.NS.Name, err), m.close())
			}
		}
	}
	for _, e := range m.ends {
		for f, sock := range e.socks {
			m.reads.Go(func() { e.read(f, sock) })
		}
		m.sends.Go(func() { m.send(e) })
	}
	return m, nil
}

// send asks all others until the mesh stops.
func (m *Mesh) send(e *meshEnd) {
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	buf := [meshSize]byte{meshAsk}
	binary.BigEndian.PutUint16(buf[1:], e.index)
	for number := uint64(0); ; number++ {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		binary.BigEndian.PutUint64(buf[5:], number)
		e.mu.Lock()
		e.asked = append(e.asked, time.Now())
		for f := range e.back {
			for to := range e.back[f] {
				e.back[f][to] = append(e.back[f][to], to == int(e.index))
			}
		}
		e.mu.Unlock()
		for f, sock := range e.socks {
			for to, other := range m.ends {
				if other == e {
					continue
				}
				binary.BigEndian.PutUint16(buf[3:], uint16(to)) //nolint:gosec // few
				// An error (no route for a moment) is a lost datagram.
				_, _ = sock.WriteToUDPAddrPort(buf[:], netip.AddrPortFrom(other.pod.Addrs[f], MeshPort))
			}
		}
	}
}

// read answers questions, and books answers.
func (e *meshEnd) read(f int, sock *net.UDPConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := sock.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case string(buf[:n]) == MeshForged:
			e.forged.Add(1)
		case err != nil || n != meshSize: // an ICMP error for an earlier datagram
		case buf[0] == meshAsk:
			buf[0] = meshAnswer
			_, _ = sock.WriteToUDPAddrPort(buf[:n], from) // an error is a lost answer
		default:
			e.book(f, binary.BigEndian.Uint16(buf[1:]), int(binary.BigEndian.Uint16(buf[3:])), binary.BigEndian.Uint64(buf[5:]))
		}
	}
}

func (e *meshEnd) book(f int, asker uint16, answerer int, number uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if asker == e.index && answerer < len(e.back[f]) && number < uint64(len(e.asked)) {
		e.back[f][answerer][number] = true
	}
}

// Lost returns the datagrams sent from one time until before another one whose answers
// have not come back so far.
func (m *Mesh) Lost(from, until time.Time) (lost []Lost) {
	for _, e := range m.ends {
		e.mu.Lock()
		for number := len(e.asked) - 1; number >= 0 && !e.asked[number].Before(from); number-- {
			if !e.asked[number].Before(until) {
				continue
			}
			for f := range e.back {
				for to := range e.back[f] {
					if !e.back[f][to][number] {
						other := m.ends[to].pod
						lost = append(lost, Lost{From: e.pod, To: other, Addr: other.Addrs[f], At: e.asked[number]})
					}
				}
			}
		}
		e.mu.Unlock()
	}
	return lost
}

// Forged returns how many datagrams came that no end has sent.
func (m *Mesh) Forged() (n int64) {
	for _, e := range m.ends {
		n += e.forged.Load()
	}
	return n
}

// Sent returns how many datagrams were sent.
func (m *Mesh) Sent() (n int) {
	for _, e := range m.ends {
		e.mu.Lock()
		n += len(e.asked) * len(e.socks) * (len(m.ends) - 1)
		e.mu.Unlock()
	}
	return n
}

// Stop ends the mesh.
func (m *Mesh) Stop() error {
	close(m.stop)
	m.sends.Wait()
	err := m.close()
	m.reads.Wait()
	return err
}

func (m *Mesh) close() (err error) {
	for _, e := range m.ends {
		for _, sock := range e.socks {
			err = errors.Join(err, sock.Close())
		}
	}
	return err
}
