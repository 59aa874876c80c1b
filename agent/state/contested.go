package state

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/bgp"
)

// Contested returns the blocks that two nodes announce, one line a block: both
// assign the same addresses, whatever the registry has. A node detects it for its
// own blocks; one that receives from several nodes, such as a reflector, for any
// block.
func (s *Snapshot) Contested() []string {
	lines := append(stolen(s.IPAM.Confirmed(), s.Sessions.Rivals), refusedBlocks(s.Sessions.Intrusions)...)
	for block, hops := range s.Sessions.Contested {
		lines = append(lines, fmt.Sprintf("block %s: is announced with next hops %v, and the registry lists no owner: the first announcer keeps it; see onlinkctl blocks on them", block, hops))
	}
	if len(s.Routes.Shared) > 0 {
		owners := map[netip.Prefix]string{}
		for _, b := range s.IPAM.Registered {
			owners[b.CIDR] = "belongs to node " + b.Node + ", and "
		}
		for block, hops := range s.Routes.Shared {
			lines = append(lines, fmt.Sprintf("block %s: %sis announced with next hops %v: two nodes use it; see onlinkctl blocks on them", block, owners[block], hops))
		}
	}
	slices.Sort(lines)
	return lines
}

// stolen returns a line for each own block that others announce, or parts of.
func stolen(own []netip.Prefix, rivals []bgp.Rival) []string {
	byBlock := map[netip.Prefix][]string{}
	for _, r := range rivals {
		if slices.Contains(own, r.Origin) {
			byBlock[r.Origin] = append(byBlock[r.Origin], rivalText(r))
		}
	}
	lines := make([]string, 0, len(byBlock))
	for block, texts := range byBlock {
		lines = append(lines, fmt.Sprintf("block %s: is ours, and is announced by another node too: %s; see onlinkctl blocks there and its bgp.originate", block, strings.Join(slices.Compact(texts), ", ")))
	}
	return lines
}

// rivalText names an announcement: prefix, next hop, AS path and the peer it
// was received from.
func rivalText(r bgp.Rival) string {
	text := fmt.Sprintf("%s with next hop %s", r.Prefix, r.NextHop)
	if r.ASPath != "" {
		text += " and AS path " + r.ASPath
	}
	if r.Peer != r.NextHop {
		text += ", received from " + r.Peer.String()
	}
	return text
}

// refusedBlocks returns a line for each block that another node than its owner
// announces, as a whole, in part or as part of a larger prefix.
func refusedBlocks(list []bgp.Intrusion) []string {
	byBlock := map[string][]string{}
	for _, i := range list {
		text := fmt.Sprintf("%s with next hop %s", i.Prefix, i.NextHop)
		if i.Peer != i.NextHop {
			text += ", received from " + i.Peer.String()
		}
		block := fmt.Sprintf("block %s: belongs to node %s", i.Block, i.Owner)
		byBlock[block] = append(byBlock[block], text)
	}
	lines := make([]string, 0, len(byBlock))
	for block, texts := range byBlock {
		lines = append(lines, fmt.Sprintf("%s, and is announced by another node: %s: refused; see onlinkctl blocks there and its bgp.originate", block, strings.Join(texts, ", ")))
	}
	return lines
}
