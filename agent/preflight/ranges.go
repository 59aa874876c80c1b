package preflight

import (
	"fmt"
	"net/netip"
	"slices"

	"onlink/agent/config"
)

// unroutable are the ranges that no router accepts from another: loopback,
// link-local of IPv6, multicast, and the last of IPv4.
var unroutable = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// leastMTU6 is the least MTU of a link with IPv6 (RFC 8200 section 5).
const leastMTU6 = 1280

// ranges rejects addresses that cannot be used as the file has them.
func (r *report) ranges() {
	for i, p := range r.BGP.Originate {
		for _, u := range unroutable {
			if u.Bits() <= p.Bits() && u.Contains(p.Addr()) {
				r.fail(fmt.Sprintf("bgp.originate[%d]", i), "%s is inside %s, which no router accepts from another; remove it", p, u)
			}
		}
	}
	for i, pool := range r.Pools {
		if slices.Contains(pool.Reserved, pool.CIDR) {
			r.fail(fmt.Sprintf("pools[%d].reserved", i), "has all of %s, so that no pod gets an address; reserve a part, or set disabled: true", pool.CIDR)
		}
	}
	six := slices.IndexFunc(r.Pools, func(p config.Pool) bool {
		return p.CIDR.Addr().Is6() && p.Encapsulation != config.EncapNever && !p.Disabled
	})
	if mtu := r.Tunnel.MTU; mtu > 0 && mtu < leastMTU6 && six >= 0 {
		r.fail("tunnel.mtu", "%d is too small for IPv6, which pool %s has: the kernel takes IPv6 off such a device (RFC 8200); use auto or at least %d", mtu, r.Pools[six].Name, leastMTU6)
	}
	if a := r.FIB.Source; a.IsValid() && (a.IsLoopback() || a.IsUnspecified() || a.IsMulticast()) {
		r.fail("fib.source", "%s is no address that others answer to; use auto or an address of this node", a)
	}
}
