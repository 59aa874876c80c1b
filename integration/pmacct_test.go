package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"onlink/integration/conf"
	"onlink/integration/lab"
)

// collector is Debian's pmbmpd, a collector of BMP, at a host outside the racks.
type collector struct {
	host *lab.Host
	port int
	file string // its configuration
	log  string // the messages that it decoded, one JSON object a line
	proc *lab.Process
}

// bmpMessage is a message as pmbmpd writes it.
type bmpMessage struct {
	Event    string `json:"event_type"` // log, log_init, log_close: of the connection
	Type     string `json:"bmp_msg_type"`
	Change   string `json:"log_type"` // update, withdraw, delete
	Peer     string `json:"peer_ip"`
	PeerType int    `json:"peer_type"`
	ASN      uint32 `json:"peer_asn"`
	In       int    `json:"is_in"`
	Post     int    `json:"is_post"`
	Loc      int    `json:"is_loc"`
	Filtered int    `json:"is_filtered"`
	Prefix   string `json:"ip_prefix"`
	Hop      string `json:"bgp_nexthop"`
	Counter  int    `json:"counter_type"`
	Reason   any    `json:"reason_type"`
	Info     map[string]any
}

// startCollector runs a collector until the lab ends.
func startCollector(t *testing.T, l *lab.Lab, name string, number int) *collector {
	t.Helper()
	if _, err := exec.LookPath("pmbmpd"); err != nil {
		t.Fatal("needs pmbmpd: apt-get install pmacct")
	}
	host, err := l.AddHost(name, number)
	must(t, err)
	dir := t.TempDir()
	c := &collector{host: host, port: 11019, file: filepath.Join(dir, "pmbmpd.conf"), log: filepath.Join(dir, "bmp.json")}
	must(t, os.WriteFile(c.file, fmt.Appendf(nil, `daemonize: false
pidfile: %s/pid
bmp_daemon_ip: 0.0.0.0
bmp_daemon_port: %d
bmp_daemon_max_peers: 10
bmp_daemon_msglog_file: %s
bmp_daemon_msglog_output: json
`, dir, c.port, c.log), 0o600))
	c.start(t)
	return c
}

// start runs the program. What one before it has written ends anywhere.
func (c *collector) start(t *testing.T) {
	t.Helper()
	err := os.Remove(c.log)
	if !errors.Is(err, os.ErrNotExist) {
		must(t, err)
	}
	c.proc, err = c.host.NS.Start(c.host.Name, c.file+".log", "pmbmpd", "-f", c.file)
	must(t, err)
}

// station is the entry of bgp.bmp for the collector.
func (c *collector) station(views ...string) conf.Station {
	return conf.Station{Name: c.host.Name, Address: c.host.Addr.String(), Port: c.port, Monitor: views, Statistics: "10s"}
}

// messages returns what the collector has decoded, without a line that it has not
// finished.
func (c *collector) messages() ([]bmpMessage, error) {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return nil, err
	}
	var list []bmpMessage
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var m bmpMessage
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		if err := json.Unmarshal(line, &m.Info); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		list = append(list, m)
	}
	return list, nil
}

// view names the table of a message: "best", or "received PEER", "accepted PEER".
func (m *bmpMessage) view() string {
	switch {
	case m.Loc == 1:
		return "best"
	case m.Post == 1:
		return "accepted " + m.Peer
	}
	return "received " + m.Peer
}

// seen is a collector's present state.
type seen struct {
	tables map[string]map[netip.Prefix]string // next hops by view and prefix
	up     map[string]bool                    // peers, "" the Loc-RIB
	count  map[string]int                     // messages by type, of all connections
	last   bmpMessage
}

// state folds the messages of the present connection.
func (c *collector) state() (*seen, error) {
	list, err := c.messages()
	if err != nil {
		return nil, err
	}
	s := &seen{count: map[string]int{}}
	s.clear()
	for i := range list {
		m := &list[i]
		if m.Event != "log" {
			s.clear()
			continue
		}
		s.last = *m
		s.count[m.Type]++
		peer := m.Peer
		if m.Loc == 1 {
			peer = ""
		}
		switch m.Type {
		case "peer_up":
			s.up[peer] = true
		case "peer_down":
			delete(s.up, peer)
			delete(s.tables, "received "+peer)
			delete(s.tables, "accepted "+peer)
		case "route_monitor":
			if err := s.route(m); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *seen) clear() { s.tables, s.up = map[string]map[netip.Prefix]string{}, map[string]bool{} }

func (s *seen) route(m *bmpMessage) error {
	p, err := netip.ParsePrefix(m.Prefix)
	if err != nil {
		return fmt.Errorf("%+v: %w", m.Info, err)
	}
	table := s.tables[m.view()]
	if table == nil {
		table = map[netip.Prefix]string{}
		s.tables[m.view()] = table
	}
	if m.Change == "update" {
		table[p] = m.Hop
	} else {
		delete(table, p)
	}
	return nil
}

// sameTable reports how two tables differ.
func sameTable(what string, got, want map[netip.Prefix]string) error {
	if !maps.Equal(got, want) {
		return fmt.Errorf("%s: the collector has %v, the node %v", what, got, want)
	}
	return nil
}
