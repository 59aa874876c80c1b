package underlay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

// bufferSize holds any notification the kernel makes; a link with hundreds of
// virtual functions is the largest.
const bufferSize = 64 << 10

// groups are the multicast groups that a Watcher subscribes to. Kernels without
// nexthop objects (before 5.3) lack the last one.
var groups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP,
	unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
}

// subscription is the socket that receives notifications. It never sends a
// request, so a lost notification cannot be confused with a lost answer.
type subscription struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
}

// subscribe opens a subscription with a receive buffer of rcvbuf bytes.
func subscribe(rcvbuf int) (_ *subscription, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	// The forced size needs CAP_NET_ADMIN, which the agent has; without it
	// the kernel's limit applies and overruns are merely likelier.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rcvbuf) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvbuf); err != nil {
			return nil, fmt.Errorf("set netlink receive buffer: %w", err)
		}
	}
	// The filter comes before the groups: no echo of ours arrives in between.
	if err := attachFilter(fd); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	for _, g := range groups {
		err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		if err != nil && (g != unix.RTNLGRP_NEXTHOP || !errors.Is(err, unix.EINVAL)) {
			return nil, fmt.Errorf("join netlink group %d: %w", g, err)
		}
	}
	file := os.NewFile(uintptr(fd), "netlink")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("watch netlink socket: %w", err)
	}
	return &subscription{file: file, raw: raw, buf: make([]byte, bufferSize)}, nil
}

// receive waits for notifications until the deadline and calls handle for
// each that is there. It returns os.ErrDeadlineExceeded when none came,
// errOverrun when some were lost, the context's error when it has ended.
func (s *subscription) receive(ctx context.Context, deadline time.Time, handle func(rtnl.Message)) error {
	if err := s.file.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("set netlink deadline: %w", err)
	}
	// An interrupt that came before the deadline was set is undone by it, but
	// then the context had ended before.
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		got := false
		for {
			n, _, flags, from, err := unix.Recvmsg(int(fd), s.buf, nil, 0)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EAGAIN):
				return got
			case errors.Is(err, unix.ENOBUFS), err == nil && flags&unix.MSG_TRUNC != 0:
				failed = errOverrun
				return true
			case err != nil:
				failed = fmt.Errorf("receive netlink notification: %w", err)
				return true
			}
			got = true
			if k, ok := from.(*unix.SockaddrNetlink); !ok || k.Pid != 0 {
				continue // not from the kernel
			}
			for m := range rtnl.Messages(s.buf[:n]).All() {
				handle(m)
			}
		}
	})
	return errors.Join(failed, err)
}

// discard empties the queue. After an overrun it must be emptied: the queued
// notifications are from before the loss, and their sequel is missing.
func (s *subscription) discard() error {
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		for {
			_, _, _, _, err := unix.Recvmsg(int(fd), s.buf, nil, 0)
			switch {
			case err == nil, errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
			case errors.Is(err, unix.EAGAIN):
				return
			default:
				failed = fmt.Errorf("discard netlink notifications: %w", err)
				return
			}
		}
	})
	return errors.Join(failed, err)
}

// interrupt makes a waiting receive return.
func (s *subscription) interrupt() error { return s.file.SetReadDeadline(time.Unix(1, 0)) }

func (s *subscription) close() error { return s.file.Close() }

// attachFilter keeps the echo of fib's writes off the socket (BPF of packet(7) on
// a netlink socket): a load of 100,000 routes would otherwise overrun it. Changes
// that others make to routes of our protocol pass.
func attachFilter(fd int) error {
	const (
		load  = unix.BPF_LD | unix.BPF_ABS
		jeq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		and   = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		kind  = 4                       // struct nlmsghdr.nlmsg_type
		port  = 12                      // struct nlmsghdr.nlmsg_pid
		route = unix.SizeofNlMsghdr + 5 // struct rtmsg.rtm_protocol
		obj   = unix.SizeofNlMsghdr + 2 // struct nhmsg.nh_protocol
		pass  = uint32(0xffffffff)
	)
	code := []unix.SockFilter{
		{Code: load | unix.BPF_H, K: kind},
		{Code: jeq, K: loaded(unix.RTM_NEWROUTE), Jt: 4},
		{Code: jeq, K: loaded(unix.RTM_DELROUTE), Jt: 3},
		{Code: jeq, K: loaded(unix.RTM_NEWNEXTHOP), Jt: 5},
		{Code: jeq, K: loaded(unix.RTM_DELNEXTHOP), Jt: 4},
		{Code: ret, K: pass},
		{Code: load | unix.BPF_B, K: route},
		{Code: jeq, K: ours.Protocol, Jt: 3},
		{Code: ret, K: pass},
		{Code: load | unix.BPF_B, K: obj},
		{Code: jeq, K: ours.Protocol, Jf: 4},
		{Code: load | unix.BPF_W, K: port},
		{Code: and, K: word(^uint32(ours.Ports - 1))},
		{Code: jeq, K: word(ours.FirstPort), Jf: 1},
		{Code: ret, K: 0},
		{Code: ret, K: pass},
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("attach netlink filter: %w", err)
	}
	return nil
}

// word is a 32-bit value in our byte order as BPF_W loads it: in network byte
// order.
func word(v uint32) uint32 {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return binary.BigEndian.Uint32(b[:])
}

// loaded is a message type as BPF_H loads it: in network byte order.
func loaded(kind uint16) uint32 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], kind)
	return uint32(b[0])<<8 | uint32(b[1])
}
