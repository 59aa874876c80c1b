package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// The sets beside [ours.PoolsSet]; each exists once per family, with "4" or "6" behind its name.
const (
	setMasquerade = "masquerade"
	setNodes      = "nodes"
)

// build adds the sets, chains and rules of the state to the connection's
// transaction.
func build(conn *nftables.Conn, table *nftables.Table, s State) error {
	b := builder{conn: conn, table: table}
	accept := nftables.ChainPolicyAccept
	post := conn.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT, Policy: &accept,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	var input, forward *nftables.Chain
	if s.Guard {
		input = conn.AddChain(&nftables.Chain{
			Name: "input", Table: table, Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
		})
		forward = conn.AddChain(&nftables.Chain{
			Name: "forward", Table: table, Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
	}
	if s.AntiSpoof {
		spoofChain(&b)
	}
	if len(s.Spread) > 0 {
		spreadChain(&b, s.Spread)
	}
	poolSets := map[bool]*nftables.Set{}
	for _, fam := range families {
		pools := b.prefixes(fam, ours.PoolsSet, s.Pools)
		poolSets[fam.v4] = pools
		if from := intervals(s.MasqueradeFrom, fam.v4); len(from) > 0 {
			b.rule(post, fam.is(), fam.inside(fam.src, b.prefixes(fam, setMasquerade, s.MasqueradeFrom)),
				fam.outside(fam.dst, pools), []expr.Any{&expr.Counter{}, &expr.Masq{}})
		}
		if !s.Guard {
			continue
		}
		nodes := b.addresses(fam, setNodes, s.Nodes)
		for _, match := range tunnelled(s.VXLANPort) {
			b.rule(input, fam.is(), match, fam.outside(fam.src, nodes), drop())
			b.rule(forward, fam.is(), match, fam.inside(fam.src, pools), fam.outside(fam.dst, pools), drop())
		}
	}
	if len(s.Registry) > 0 {
		registryChains(&b, s.Registry, poolSets)
	}
	return b.err
}

// tunnelled returns one match per kind of tunnelled packet: IPv4 in IP (RFC
// 2003), IPv6 in IP (RFC 4213), and UDP to the VXLAN port if there is one.
func tunnelled(vxlan uint16) [][]expr.Any {
	list := [][]expr.Any{protocol(unix.IPPROTO_IPIP), protocol(unix.IPPROTO_IPV6)}
	if vxlan != 0 {
		list = append(list, append(protocol(unix.IPPROTO_UDP),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(vxlan)},
		))
	}
	return list
}
