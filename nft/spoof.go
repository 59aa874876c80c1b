package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"onlink/internal/ours"
)

// spoofChain drops a pod's packets from an address that is not routed to its own
// interface. The routes hold those addresses, so there is no state here per pod,
// and nothing can be left behind. rp_filter does the same, but not for IPv6, and
// not where net.ipv4.conf.all.rp_filter is 2 (loose), which overrides the
// interface's strict 1.
//
// The chain comes before connection tracking and every translation: forged
// packets make no entry.
func spoofChain(b *builder) {
	accept := nftables.ChainPolicyAccept
	chain := b.conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: b.table, Type: nftables.ChainTypeFilter, Policy: &accept,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	for _, fam := range families {
		b.rule(chain, fam.is(), fromPod(), notRoutedBack(), drop())
	}
}

// fromPod matches packets that came in through a pod's device, by its interface
// group. By name it would cut off an operator's uplink that is called onlan0.
func fromPod() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(ours.PodGroupMask), Xor: binaryutil.NativeEndian.PutUint32(0),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(ours.PodGroup)},
	}
}

// notRoutedBack matches packets whose source address is not routed to the
// interface they came from (nft(8), "fib saddr . iif oif missing").
func notRoutedBack() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
	}
}
