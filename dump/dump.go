// Package dump lists objects of the kernel: links, addresses, neighbours,
// routes and policy rules. It is the only place that calls the list functions
// of the netlink library.
//
// The kernel marks a list with NLM_F_DUMP_INTR when the table changed while it
// was read: an entry may be missing from it or be in it twice. Every function
// here then repeats the list, at most [tries] times. A host with many devices,
// on which another program makes and removes some, interrupts one list of five.
package dump

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// tries bounds how often a list is read. A list of a thousand links takes some
// milliseconds, so that it ends within a second at the latest.
const tries = 50

// ErrInterrupted is returned with a list that the kernel marked inconsistent
// each time. The last one comes with it, for callers that read again soon.
var ErrInterrupted = netlink.ErrDumpInterrupted

// whole repeats list until it is consistent.
func whole[T any](what string, list func() (T, error)) (T, error) {
	var out T
	var err error
	for range tries {
		if out, err = list(); !errors.Is(err, ErrInterrupted) {
			break
		}
	}
	if errors.Is(err, ErrInterrupted) {
		return out, fmt.Errorf("list %s: changed while it was read, %d times: %w", what, tries, err)
	}
	if err != nil {
		return out, fmt.Errorf("list %s: %w", what, err)
	}
	return out, nil
}

// Links lists all network devices.
func Links(h *netlink.Handle) ([]netlink.Link, error) {
	return whole("links", h.LinkList)
}

// Addrs lists the addresses of a link, of one family or of all
// (netlink.FAMILY_ALL).
func Addrs(h *netlink.Handle, link netlink.Link, family int) ([]netlink.Addr, error) {
	return whole("addresses", func() ([]netlink.Addr, error) { return h.AddrList(link, family) })
}

// Neighbours lists the neighbour entries of a link, 0: of all.
func Neighbours(h *netlink.Handle, index, family int) ([]netlink.Neigh, error) {
	return whole("neighbours", func() ([]netlink.Neigh, error) {
		return h.NeighListExecute(netlink.Ndmsg{Family: uint8(family), Index: uint32(index)}) //nolint:gosec // both are small
	})
}

// Routes lists the routes of a family that match the filter in the fields that
// mask names (netlink.RT_FILTER_*).
func Routes(h *netlink.Handle, family int, filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return whole("routes", func() ([]netlink.Route, error) { return h.RouteListFiltered(family, filter, mask) })
}

// Rules lists the policy rules of a family that match the filter in the fields
// that mask names.
func Rules(h *netlink.Handle, family int, filter *netlink.Rule, mask uint64) ([]netlink.Rule, error) {
	return whole("rules", func() ([]netlink.Rule, error) { return h.RuleListFiltered(family, filter, mask) })
}
