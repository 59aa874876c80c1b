package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// netstatFile has the kernel's counters of this network namespace.
const netstatFile = "/proc/net/netstat"

// md5Memory is how long a dropped segment explains why a session is down: longer than
// the pause of any connection attempt.
const md5Memory = 2 * time.Minute

// md5Drops counts the segments that the kernel dropped because of their TCP MD5 option
// (RFC 2385), for all sockets of the namespace. It never names the sender.
type md5Drops struct {
	// missing: without the option, from a peer that has a key here. unexpected: with the
	// option, from a peer that has none. wrong: made with another key.
	missing, unexpected, wrong uint64
}

// parseMD5Drops reads the counters from the text of /proc/net/netstat: lines in pairs,
// the names and the values. A kernel without TCP MD5 has zeros.
func parseMD5Drops(text string) (d md5Drops) {
	fields := map[string]*uint64{"TCPMD5NotFound": &d.missing, "TCPMD5Unexpected": &d.unexpected, "TCPMD5Failure": &d.wrong}
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for n := range min(len(names), len(values)) {
			to := fields[names[n]]
			if to == nil {
				continue
			}
			if v, err := strconv.ParseUint(values[n], 10, 64); err == nil {
				*to = v
			}
		}
	}
	return d
}

// md5Watch remembers when the kernel dropped segments because of TCP MD5.
type md5Watch struct {
	mu   sync.Mutex // guards all below
	last md5Drops
	read bool // last is of the kernel
	// at is when each counter grew last, zero for never.
	missingAt, unexpectedAt, wrongAt time.Time
}

// look reads the counters. A file that cannot be read changes nothing.
func (m *md5Watch) look(file string, now time.Time) {
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	m.take(parseMD5Drops(string(text)), now)
}

func (m *md5Watch) take(d md5Drops, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.read {
		grew(&m.missingAt, d.missing, m.last.missing, now)
		grew(&m.unexpectedAt, d.unexpected, m.last.unexpected, now)
		grew(&m.wrongAt, d.wrong, m.last.wrong, now)
	}
	m.last, m.read = d, true
}

func grew(at *time.Time, v, before uint64, now time.Time) {
	if v > before {
		*at = now
	}
}

// why returns what the counters say of a session that is down; "" for nothing. password
// means that this node has a key for the peer.
func (m *md5Watch) why(password bool, now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh := func(at time.Time) bool { return !at.IsZero() && now.Sub(at) < md5Memory }
	switch {
	case password && fresh(m.wrongAt):
		return "the kernel drops segments with a wrong TCP MD5 key (TCPMD5Failure): set the same password at both ends"
	case password && fresh(m.missingAt):
		return "the kernel drops segments without a TCP MD5 key (TCPMD5NotFound): the peer has no password for this node"
	case !password && fresh(m.unexpectedAt):
		return "the kernel drops segments with a TCP MD5 key (TCPMD5Unexpected): the peer has a password for this node, and this node has none for it"
	}
	return ""
}

// problem returns a line about drops that no peer's session explains: of a client that
// is not listed, because nothing of it ever arrived. explained reports whether a session
// with, or without, a password is down.
func (m *md5Watch) problem(explained func(password bool) bool, ranges []string, now time.Time) string {
	for _, password := range []bool{true, false} {
		if why := m.why(password, now); why != "" && !explained(password) {
			from := "no session of a peer is down, so it is another address"
			if len(ranges) > 0 {
				from += ", such as a client of " + strings.Join(ranges, ", ")
			}
			return fmt.Sprintf("bgp: %s; %s", why, from)
		}
	}
	return ""
}

// Problems returns the faults of sessions that no peer of [Speaker.Peers] has, one line
// each.
func (o Operator) Problems() []string {
	now := time.Now()
	o.s.mu.Lock()
	passwords, ranges := map[netip.Addr]bool{}, []string(nil)
	for a, p := range o.s.sessions.want.peers {
		passwords[a] = p.Password != ""
	}
	for _, d := range inOrder(o.s.sessions.want.dynamics, func(a, b Dynamic) int { return a.Prefix.Compare(b.Prefix) }) {
		ranges = append(ranges, fmt.Sprintf("%s (%s)", d.Prefix, d.Name))
	}
	o.s.mu.Unlock()
	down := map[bool]bool{}
	for a, password := range passwords {
		if o.s.ledger.get(a).state != established {
			down[password] = true
		}
	}
	text := o.s.md5.problem(func(password bool) bool { return down[password] }, ranges, now)
	if text == "" {
		return nil
	}
	return []string{text}
}
