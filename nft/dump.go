package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// readTries bounds how often a reading of the ruleset is begun again.
const readTries = 20

// settled repeats a read of the ruleset until no other transaction came between:
// the kernel marks a list that one interrupts (NLM_F_DUMP_INTR), and the
// nftables library ignores the mark. Several lists that belong together are then
// of one generation, too. When other transactions never stop, the last read is
// returned, and the caller reads again later. netns is a descriptor of the
// network namespace, 0: the calling thread's.
func settled[T any](netns int, read func() (T, error)) (out T, err error) {
	conn, err := dialGeneration(netns)
	if err != nil {
		return out, err
	}
	defer conn.Close() //nolint:errcheck // only read from
	for range readTries {
		before, err := generation(conn)
		if err != nil {
			return out, err
		}
		var failed error
		out, failed = read()
		after, err := generation(conn)
		if err != nil {
			return out, err
		}
		if failed != nil || before == after {
			return out, failed
		}
	}
	return read()
}

// Generation returns the number of the ruleset of the calling thread's network
// namespace: as long as it is the same, so are all tables, except that a table of
// a program that ended may be gone (nft(8), flag owner). It is 0 when the kernel
// has no such number.
func Generation() (uint32, error) {
	conn, err := dialGeneration(0)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // only read from
	return generation(conn)
}

// dialGeneration opens a socket for [generation].
func dialGeneration(netns int) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	return conn, nil
}

// generation returns the number of the ruleset, which every transaction
// changes.
func generation(conn *netlink.Conn) (uint32, error) {
	const get, answer = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	list, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: get, Flags: netlink.Request},
		Data:   make([]byte, sizeofNfGenMsg),
	})
	if err != nil {
		return 0, fmt.Errorf("read nftables generation: %w", err)
	}
	for _, m := range list {
		if m.Header.Type != answer || len(m.Data) < sizeofNfGenMsg {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(m.Data[sizeofNfGenMsg:])
		if err != nil {
			return 0, fmt.Errorf("read nftables generation: %w", err)
		}
		attrs.ByteOrder = binary.BigEndian
		for attrs.Next() {
			if attrs.Type() == unix.NFTA_GEN_ID {
				return attrs.Uint32(), nil
			}
		}
	}
	return 0, nil // a kernel without the attribute
}

const sizeofNfGenMsg = 4 // struct nfgenmsg of linux/netfilter/nfnetlink.h
