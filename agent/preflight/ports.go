package preflight

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// program is the name of the agent's process, whose own ports are no clash.
const program = "onlinkd"

// answers reports whether a process serves a unix socket.
func answers(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close() // only a probe
	return true
}

// addresses checks that this machine lets the agent bind what the file names.
func (m *machine) addresses() {
	for _, e := range listeners(m.Config) {
		m.bind(e)
	}
	for i, p := range m.BGP.Peers {
		at, a := m.Places.Peer(i)+".localAddress", p.LocalAddress
		if a.IsValid() && errors.Is(bind(netip.AddrPortFrom(a, 0)), unix.EADDRNOTAVAIL) {
			m.fail(at, "this machine does not have %s; write one of its addresses (ip address), or remove it", a)
		}
	}
	for i, s := range m.BGP.BMP {
		if a := s.SourceAddress; a.IsValid() && errors.Is(bind(netip.AddrPortFrom(a, 0)), unix.EADDRNOTAVAIL) {
			m.fail(fmt.Sprintf("bgp.bmp[%d].sourceAddress", i), "this machine does not have %s; write one of its addresses (ip address), or remove it", a)
		}
	}
	if a := m.FIB.Source; a.IsValid() && !own(m.watch.Addresses())(a) && errors.Is(bind(netip.AddrPortFrom(a, 0)), unix.EADDRNOTAVAIL) {
		m.fail("fib.source", "this machine does not have %s, and the kernel rejects every route with it; use auto or one of its addresses (ip address)", a)
	}
}

// bind checks one listener.
func (m *machine) bind(e listener) {
	field := e.field
	if field == "bgp.listen" {
		field += ".address"
	}
	switch err := bind(e.at); {
	case err == nil:
	case errors.Is(err, unix.EADDRNOTAVAIL):
		m.fail(field, "this machine does not have %s; write one of its addresses (ip address), or listen on all of them", e.at.Addr())
	case errors.Is(err, unix.EADDRINUSE):
		if e.field == "bgp.listen" {
			field = "bgp.listen.port"
		}
		if name, who := holder(e.at.Port()); name != program && (name != "" || !m.runs) {
			m.fail(field, "port %d is in use by %s; stop that, or use another port", e.at.Port(), who)
		}
	}
}

// bind returns the kernel's answer to a server's bind(2), without listening.
func bind(at netip.AddrPort) error {
	err := bindOnce(at)
	if errors.Is(err, unix.EAFNOSUPPORT) && at.Addr() == netip.IPv6Unspecified() { // a kernel without IPv6
		return bindOnce(netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()))
	}
	return err
}

func bindOnce(at netip.AddrPort) error {
	family := unix.AF_INET
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: as4(at.Addr())}
	if at.Addr().Is6() {
		family = unix.AF_INET6
		six := &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
		if dev, err := net.InterfaceByName(at.Addr().Zone()); err == nil {
			six.ZoneId = uint32(dev.Index) //nolint:gosec // an index of the kernel
		}
		to = six
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // only bound
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	return unix.Bind(fd, to)
}

func as4(a netip.Addr) (out [4]byte) {
	if a.Is4() {
		out = a.As4()
	}
	return out
}

// holder returns the name of the process that listens on a TCP port of this
// network namespace, and a text that names it; "" when this process may not see it.
func holder(port uint16) (name, text string) {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		listening(table, port, inodes)
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "", "another process"
	}
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil || !inodes[strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")] {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		comm, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			continue
		}
		name = strings.TrimSpace(string(comm))
		return name, fmt.Sprintf("%s (process %s)", name, pid)
	}
	return "", "another process"
}

// listening adds the inodes of the sockets that listen on a port, by proc_net_tcp(5).
func listening(table string, port uint16, inodes map[string]bool) {
	text, err := os.ReadFile(table)
	if err != nil {
		return
	}
	const local, state, inode, listen = 1, 3, 9, "0A"
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) <= inode || f[state] != listen {
			continue
		}
		_, hex, _ := strings.Cut(f[local], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(n) == port {
			inodes[f[inode]] = true
		}
	}
}

// dial returns why nobody answers at a TCP address.
func dial(at netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", at.String(), time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}
