package nft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// sendBuffer holds the largest transaction: the addresses of 50,000 nodes,
// 32 bytes each, and the fixed part.
const sendBuffer = 4 << 20

// dial prepares a connection; the socket is opened for each operation, in the
// network namespace of the calling thread.
func dial() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return c.SetWriteBuffer(sendBuffer)
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	return conn, nil
}

// Supported reports whether this kernel can hold the table: nil,
// [ErrUnsupported] with the kernel's answer, or another error such as
// os.ErrPermission (CAP_NET_ADMIN is missing). It tries, in one transaction
// that also removes the table, so nothing is left behind and no packet meets it.
func Supported() error {
	return probe(State{
		MasqueradeFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Guard:          true, Nodes: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	})
}

// SupportsAntiSpoof reports whether this kernel can look routes up in a rule:
// nil, [ErrUnsupported] with the kernel's answer, or another error.
func SupportsAntiSpoof() error { return probe(State{AntiSpoof: true}) }

// probe writes a state to a table that goes with the same transaction.
func probe(s State) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	table := conn.CreateTable(probeTable())
	if err := build(conn, table, s.normal()); err != nil {
		return fmt.Errorf("build probe table: %w", err)
	}
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("probe nftables: %w", explain(err))
	}
	return nil
}

// probeTable is a table with an unused name: it is deleted again.
func probeTable() *nftables.Table {
	return &nftables.Table{Name: fmt.Sprintf("onlink-probe-%016x", rand.Uint64()), Family: nftables.TableFamilyINet}
}

// unsupported are the kernel's errors for a part of nf_tables that is not built
// in: no netfilter netlink at all, no nf_tables subsystem, no such family, chain
// type or expression.
var unsupported = []error{
	unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EINVAL, unix.ENOENT, unix.ENOSYS,
}

// explain marks an error of a kernel without nftables with ErrUnsupported.
func explain(err error) error {
	for _, cause := range unsupported {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}
	return err
}
