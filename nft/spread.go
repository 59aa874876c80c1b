package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// spreadChain marks packets into the devices with [ours.SpreadMark]. A packet
// with another mark keeps it, and does not need this one.
//
// A VXLAN device caches the route to a far node and so puts all flows to it on
// one of several uplinks. For a packet with a mark it looks the route up again,
// with the outer packet's ports (ip_tunnel_dst_cache_usable); the value of the
// mark does not matter.
func spreadChain(b *builder, devices []string) {
	accept := nftables.ChainPolicyAccept
	chain := b.conn.AddChain(&nftables.Chain{
		Name: "spread", Table: b.table, Type: nftables.ChainTypeFilter, Policy: &accept,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityMangle,
	})
	for _, dev := range devices {
		b.rule(chain, into(dev), mark())
	}
}

// into matches packets that leave through a device.
func into(dev string) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, dev)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
	}
}

// mark gives [ours.SpreadMark] to packets without a mark.
func mark() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(ours.SpreadMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}
