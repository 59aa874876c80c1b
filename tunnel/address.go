package tunnel

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
)

// address makes the device's IPv4 addresses exactly [Desired.Inner], and
// reports whether the device had none meanwhile.
func (e *Ensurer) address(d Desired, l netlink.Link) (bare bool, err error) {
	have, err := dump.Addrs(e.handle, l, netlink.FAMILY_V4)
	if err != nil {
		return false, err
	}
	found := false
	for _, a := range have {
		ones, bits := a.Mask.Size()
		if toAddr(a.IP) == d.Inner && ones == bits && a.Scope == unix.RT_SCOPE_HOST {
			found = true
			continue
		}
		if err := e.handle.AddrDel(l, &a); err != nil {
			return false, fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
		e.log.Info("tunnel address removed", "device", d.Name, "address", a.IPNet.String())
	}
	if found || !d.Inner.IsValid() {
		return !found && len(have) > 0, nil
	}
	own := &netlink.Addr{
		IPNet: &net.IPNet{IP: d.Inner.AsSlice(), Mask: net.CIDRMask(d.Inner.BitLen(), d.Inner.BitLen())},
		Scope: unix.RT_SCOPE_HOST,
	}
	if err := e.handle.AddrAdd(l, own); err != nil {
		return false, fmt.Errorf("add address %s: %w", own.IPNet, err)
	}
	return true, nil
}
