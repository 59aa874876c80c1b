package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
)

// setAddress makes the device's IPv4 addresses exactly [inner], and reports
// whether the device had none meanwhile. It is added before others go, such as
// the node's own, which former versions put there: with the last address the
// kernel would take the routes.
func setAddress(h *netlink.Handle, log *slog.Logger, l netlink.Link) (bare bool, err error) {
	have, err := dump.Addrs(h, l, netlink.FAMILY_V4)
	if err != nil {
		return false, err
	}
	isInner := func(a netlink.Addr) bool {
		ones, bits := a.Mask.Size()
		return toAddr(a.IP) == inner && ones == bits && a.Scope == unix.RT_SCOPE_HOST
	}
	if !slices.ContainsFunc(have, isInner) {
		own := &netlink.Addr{IPNet: &net.IPNet{IP: inner.AsSlice(), Mask: net.CIDRMask(32, 32)}, Scope: unix.RT_SCOPE_HOST}
		if err := h.AddrReplace(l, own); err != nil {
			return false, fmt.Errorf("add address %s: %w", own.IPNet, err)
		}
	}
	for _, a := range have {
		if isInner(a) {
			continue
		}
		if err := h.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return false, fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
		log.Info("tunnel address removed", "device", l.Attrs().Name, "address", a.IPNet.String())
	}
	return len(have) == 0, nil
}
