package fib

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// netlink is the kernel behind one rtnetlink socket. It serves one goroutine.
// After an error that leaves replies unaccounted for, the socket is closed
// and the next call opens a fresh one, in the network namespace of the
// calling thread.
type netlink struct {
	fd   int // -1: none
	seq  uint32
	enc  encoder
	rx   []byte
	rt   wireRoute   // reused for every dumped route
	nh   wireNexthop // reused for every dumped object
	quit bool
}

const (
	rxSize      = 64 << 10 // the kernel fills at most 32 KiB per read
	sendBytes   = 64 << 10 // flush a batch when it grows to this
	socketBytes = 4 << 20  // room for a refusal of every message of a batch
	rxTimeout   = 5        // seconds; replies are queued before send returns
)

// openNetlink opens the socket.
func openNetlink(cfg Config) (*netlink, error) {
	n := &netlink{fd: -1, rx: make([]byte, rxSize)}
	n.enc = encoder{table: cfg.Table, src4: cfg.Source4, src6: cfg.Source6}
	return n, n.ready()
}

// ready opens the socket if there is none.
func (n *netlink) ready() error {
	if n.quit {
		return ErrClosed
	}
	if n.fd >= 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink socket: %w", err)
	}
	if err := bindOurs(fd); err != nil {
		return errors.Join(fmt.Errorf("bind rtnetlink socket: %w", err), unix.Close(fd))
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: rxTimeout}); err != nil {
		return errors.Join(fmt.Errorf("bound rtnetlink reads: %w", err), unix.Close(fd))
	}
	setOptions(fd)
	n.fd = fd
	return nil
}

// bindOurs binds a socket to a port of the range that marks notifications as the
// echo of our own writes, so that a watcher of the kernel (package fib/underlay)
// can distinguish the changes of other programs to our routes. With all ports
// taken, by leaked sockets or another agent, any port will do: our echo then
// looks like another program's change.
func bindOurs(fd int) error {
	for port := uint32(ours.FirstPort); port < ours.FirstPort+ours.Ports; port++ {
		err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port})
		if !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
	}
	return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// setOptions sets the options that are not required; a kernel without one works
// too (old kernels: the codec filters and bounds by itself).
func setOptions(fd int) {
	for _, opt := range []int{unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBytes)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBytes)
	}
}

// drop closes the socket, and with it all queued replies.
func (n *netlink) drop() {
	if n.fd >= 0 {
		_ = unix.Close(n.fd)
		n.fd = -1
	}
}

// close ends the use of n.
func (n *netlink) close() error {
	n.drop()
	n.quit = true
	return nil
}

// write implements kernel.
func (n *netlink) write(reqs []request) error {
	for len(reqs) > 0 {
		if err := n.ready(); err != nil {
			return err
		}
		done, err := n.writeSome(reqs)
		if err != nil {
			n.drop()
			return err
		}
		reqs = reqs[done:]
	}
	return nil
}

// writeSome sends the requests that fit one message buffer, requests an
// acknowledgement of the last one only (the kernel always reports a refusal), and
// reads until it arrives. It returns the number of sent requests.
func (n *netlink) writeSome(reqs []request) (int, error) {
	n.enc.B = n.enc.B[:0]
	first := n.seq + 1
	count, last := 0, 0
	for i := range reqs {
		reqs[i].err = nil
		n.seq++
		last = n.enc.request(&reqs[i], n.seq)
		count++
		if len(n.enc.B) >= sendBytes {
			break
		}
	}
	n.enc.AskAck(last)
	if err := n.send(); err != nil {
		return 0, err
	}
	for {
		b, err := n.receive()
		if err != nil {
			return 0, err
		}
		if n.outcomes(b, reqs[:count], first) {
			return count, nil
		}
	}
}

// outcomes stores the replies in b and reports whether the last request's was
// among them.
func (n *netlink) outcomes(b rtnl.Messages, reqs []request, first uint32) bool {
	for {
		m, ok := b.Next()
		if !ok {
			return false
		}
		i := m.Seq - first
		if m.Type != unix.NLMSG_ERROR || i >= uint32(len(reqs)) {
			continue
		}
		reqs[i].err = m.Err("")
		if int(i) == len(reqs)-1 {
			return true
		}
	}
}

func (n *netlink) send() error {
	for {
		_, err := unix.Write(n.fd, n.enc.B)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("send to rtnetlink: %w", err)
		}
	}
}

// receive reads one datagram; EAGAIN is the bounded wait running out.
func (n *netlink) receive() (rtnl.Messages, error) {
	for {
		c, err := unix.Read(n.fd, n.rx)
		if err == nil {
			return n.rx[:c], nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("read from rtnetlink: %w", err)
		}
	}
}

// dump sends the request in enc and passes every answer of type want to each. It
// returns errInterrupted after a complete dump that the kernel marked
// inconsistent.
func (n *netlink) dump(want uint16, each func(body []byte)) error {
	if err := n.send(); err != nil {
		n.drop()
		return err
	}
	var result error
	for {
		b, err := n.receive()
		if err != nil {
			n.drop()
			return err
		}
		for {
			m, ok := b.Next()
			if !ok {
				break
			}
			if m.Seq != n.seq {
				continue
			}
			if m.Flags&unix.NLM_F_DUMP_INTR != 0 {
				result = errInterrupted
			}
			switch m.Type {
			case want:
				each(m.Body)
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return errors.Join(m.Err(""), result)
			}
		}
	}
}

// routes implements kernel.
func (n *netlink) routes(protocol uint8, each func(*wireRoute)) error {
	return n.allTables(protocol, func(r *wireRoute) {
		if r.table == n.enc.table {
			each(r)
		}
	})
}

// allTables is routes for every table that the kernel shows: the encoder's one,
// or all where that is 0.
func (n *netlink) allTables(protocol uint8, each func(*wireRoute)) error {
	body := func(b []byte) {
		if decodeRoute(b, &n.rt) && (protocol == 0 || n.rt.protocol == protocol) {
			each(&n.rt)
		}
	}
	var result error
	for _, v6 := range [...]bool{false, true} {
		if err := n.ready(); err != nil {
			return err
		}
		n.seq++
		n.enc.B = n.enc.B[:0]
		n.enc.dumpRoutes(v6, protocol, n.seq)
		err := n.dump(unix.RTM_NEWROUTE, body)
		switch {
		case errors.Is(err, errInterrupted):
			result = errInterrupted
		case errors.Is(err, unix.ENOENT): // the table does not exist yet
		case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP): // no IPv6
		case err != nil:
			return fmt.Errorf("dump routes: %w", err)
		}
	}
	return result
}

// nexthops implements kernel.
func (n *netlink) nexthops(each func(*wireNexthop)) error {
	if err := n.ready(); err != nil {
		return err
	}
	n.seq++
	n.enc.B = n.enc.B[:0]
	n.enc.dumpNexthops(n.seq)
	err := n.dump(unix.RTM_NEWNEXTHOP, func(b []byte) {
		if decodeNexthop(b, &n.nh) && n.nh.id >= ours.FirstNexthopID {
			each(&n.nh)
		}
	})
	if err != nil {
		return fmt.Errorf("dump nexthop objects: %w", err)
	}
	return nil
}

// lookup implements kernel.
func (n *netlink) lookup(p netip.Prefix, r *wireRoute) error {
	if err := n.ready(); err != nil {
		return err
	}
	n.seq++
	n.enc.B = n.enc.B[:0]
	n.enc.lookup(p.Addr(), n.seq)
	found := false
	err := n.dump(unix.RTM_NEWROUTE, func(b []byte) { found = decodeRoute(b, r) })
	if err == nil && !found {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return fmt.Errorf("look up route: %w", err)
	}
	return nil
}

// linkIndex implements links.
func (n *netlink) linkIndex(name string) (uint32, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("device %q: %w", name, ErrNoDevice)
	}
	if err := n.ready(); err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(n.fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("device %q: %w", name, ErrNoDevice)
	}
	return ifr.Uint32(), nil
}

// linkName implements links.
func (n *netlink) linkName(index uint32) (string, error) {
	if err := n.ready(); err != nil {
		return "", err
	}
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return "", fmt.Errorf("device %d: %w", index, err)
	}
	ifr.SetUint32(index)
	if err := unix.IoctlIfreq(n.fd, unix.SIOCGIFNAME, ifr); err != nil {
		return "", fmt.Errorf("device %d: %w", index, ErrNoDevice)
	}
	return ifr.Name(), nil
}
