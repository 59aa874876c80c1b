package nft

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// registryChains drop packets of pods to the served block registry. They do so
// on the node of the pod, because masquerading gives the packet the node's
// address, which the registry takes for the node; and in the input hook too, for
// a registry on the pod's own node.
func registryChains(b *builder, served []netip.AddrPort, pools map[bool]*nftables.Set) {
	accept := nftables.ChainPolicyAccept
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return b.conn.AddChain(&nftables.Chain{
			Name: name, Table: b.table, Type: nftables.ChainTypeFilter, Policy: &accept, Hooknum: hook, Priority: nftables.ChainPriorityFilter,
		})
	}
	input := chain("registry-input", nftables.ChainHookInput)
	forward := chain("registry-forward", nftables.ChainHookForward)
	for _, at := range served {
		for _, fam := range families {
			any6 := at.Addr() == netip.IPv6Unspecified() // a listener of both families
			if fam.v4 != at.Addr().Is4() && !any6 {
				continue
			}
			from := fam.inside(fam.src, pools[fam.v4])
			if at.Addr().IsUnspecified() {
				b.rule(input, fam.is(), from, tcpTo(at.Port()), drop())
				continue
			}
			to := fam.equal(fam.dst, at.Addr())
			b.rule(input, fam.is(), from, to, tcpTo(at.Port()), drop())
			b.rule(forward, fam.is(), from, to, tcpTo(at.Port()), drop())
		}
	}
}

// equal matches packets with exactly this address at the offset.
func (f family) equal(offset uint32, addr netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.key.Bytes},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr.AsSlice()},
	}
}

// tcpTo matches TCP to a port.
func tcpTo(port uint16) []expr.Any {
	return append(protocol(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	)
}

// endpoints returns the list sorted, without repetitions and invalid ones.
func endpoints(list []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, ap := range list {
		if ap.IsValid() && ap.Port() != 0 {
			out = append(out, netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()))
		}
	}
	slices.SortFunc(out, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	return slices.Compact(out)
}
