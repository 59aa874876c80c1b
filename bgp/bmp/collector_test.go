package bmp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	codec "github.com/osrg/gobgp/v3/pkg/packet/bmp"
)

// patience bounds every wait.
const patience = 20 * time.Second

// collector is a station's other end: it keeps the tables that a station sends it, as
// another implementation of BMP decodes them.
type collector struct {
	t        *testing.T
	listener net.Listener

	mu          sync.Mutex
	gate        *sync.Cond // of paused
	paused      bool
	connections int
	conn        net.Conn // the present one
	log         []*codec.BMPMessage
	tables      map[string]map[netip.Prefix]uint32 // by view and peer; emptied by each connection
	markers     map[string]int                     // End-of-RIBs
	faults      []string
}

// keep is how many messages are kept whole.
const keep = 1000

func newCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, listener: l}
	c.gate = sync.NewCond(&c.mu)
	go c.serve()
	t.Cleanup(func() {
		l.Close()
		c.pause(false)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, f := range c.faults {
			t.Error(f)
		}
	})
	return c
}

// at returns the settings of a station at the collector.
func (c *collector) at(name string, views ...View) Settings {
	at := c.listener.Addr().(*net.TCPAddr).AddrPort()
	return Settings{Name: name, Address: at.Addr(), Port: at.Port(), Monitor: views}
}

func (c *collector) serve() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.conn, c.tables, c.markers, c.log = conn, map[string]map[netip.Prefix]uint32{}, map[string]int{}, nil
		c.connections++
		c.mu.Unlock()
		c.consume(conn)
	}
}

// consume reads a connection to its end.
func (c *collector) consume(conn net.Conn) {
	defer conn.Close()
	for {
		c.mu.Lock()
		for c.paused {
			c.gate.Wait()
		}
		c.mu.Unlock()
		head := make([]byte, headLen)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		whole := make([]byte, binary.BigEndian.Uint32(head[1:]))
		copy(whole, head)
		if _, err := io.ReadFull(conn, whole[headLen:]); err != nil {
			return
		}
		msg, err := codec.ParseBMPMessage(whole)
		c.mu.Lock()
		if err != nil {
			c.faults = append(c.faults, fmt.Sprintf("cannot decode %x: %v", whole, err))
		} else {
			c.take(msg)
		}
		c.mu.Unlock()
	}
}

// take adopts a message.
func (c *collector) take(m *codec.BMPMessage) {
	if len(c.log) < keep {
		c.log = append(c.log, m)
	}
	peer := m.PeerHeader.PeerAddress.String()
	switch body := m.Body.(type) {
	case *codec.BMPPeerDownNotification:
		for _, v := range []View{Received, Accepted} {
			delete(c.tables, string(v)+" "+peer)
		}
	case *codec.BMPRouteMonitoring:
		key := viewOf(&m.PeerHeader)
		if c.tables[key] == nil {
			c.tables[key] = map[netip.Prefix]uint32{}
		}
		u := body.BGPUpdate.Body.(*bgp.BGPUpdate)
		if eor, f := u.IsEndOfRib(); eor {
			c.markers[fmt.Sprintf("%s %s", key, f)]++
			return
		}
		for _, n := range u.WithdrawnRoutes {
			delete(c.tables[key], netip.MustParsePrefix(n.String()))
		}
		for _, n := range u.NLRI {
			c.tables[key][netip.MustParsePrefix(n.String())] = medOf(u)
		}
	}
}

// viewOf names the table of a message.
func viewOf(h *codec.BMPPeerHeader) string {
	view := Received
	switch {
	case h.PeerType == codec.BMP_PEER_TYPE_LOCAL_RIB:
		return string(Best)
	case h.IsPostPolicy():
		view = Accepted
	}
	return string(view) + " " + h.PeerAddress.String()
}

func medOf(u *bgp.BGPUpdate) uint32 {
	for _, a := range u.PathAttributes {
		if med, ok := a.(*bgp.PathAttributeMultiExitDisc); ok {
			return med.Value
		}
	}
	return 0
}

// pause stops the reading, or goes on with it.
func (c *collector) pause(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = on
	c.gate.Broadcast()
}

// reset cuts the present connection with a RST, in the middle of whatever is under way.
func (c *collector) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	tcp, ok := c.conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetLinger(0) // the collector sees whether it was cut
	_ = tcp.Close()
}

// eventually fails the test when ok stays an error.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-tick.C
	}
}

var errNotYet = errors.New("not yet")

// when waits until fn is true of the collector.
func (c *collector) when(what string, fn func(c *collector) bool) {
	c.t.Helper()
	eventually(c.t, what, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if fn(c) {
			return nil
		}
		return fmt.Errorf("%w: %d connections, %d messages, tables %v", errNotYet, c.connections, len(c.log), lengths(c.tables))
	})
}

func lengths(tables map[string]map[netip.Prefix]uint32) map[string]int {
	out := map[string]int{}
	for k, t := range tables {
		out[k] = len(t)
	}
	return out
}
