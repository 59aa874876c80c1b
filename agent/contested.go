package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onlink/bgp"
)

// contested says which blocks two nodes announce, one line a block: both give
// out the same addresses, whatever the registry says. A node hears it of its
// own blocks; one that hears several nodes, such as a reflector, of any block.
func (a *agent) contested(ctx context.Context) ([]string, error) {
	lines := append(stolen(confirmed(a.alloc.Blocks()), a.speaker.Rivals()), refusedBlocks(a.speaker.Intrusions())...)
	var shared map[netip.Prefix][]netip.Addr
	if err := a.learn.do(ctx, func() { shared = a.learn.table.Shared() }); err != nil {
		return nil, err
	}
	for block, hops := range a.speaker.Contested() {
		lines = append(lines, fmt.Sprintf("block %s: is announced with next hops %v, and the registry does not say whose it is: the first one keeps it, look at onlinkctl blocks on them", block, hops))
	}
	if len(shared) == 0 {
		slices.Sort(lines)
		return lines, nil
	}
	owners := map[netip.Prefix]string{}
	for _, b := range a.registered(ctx) {
		owners[b.CIDR] = "belongs to node " + b.Node + ", and "
	}
	for block, hops := range shared {
		lines = append(lines, fmt.Sprintf("block %s: %sis announced with next hops %v: two nodes use it, look at onlinkctl blocks on them", block, owners[block], hops))
	}
	slices.Sort(lines)
	return lines, nil
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
		lines = append(lines, fmt.Sprintf("block %s: is ours, and is announced by another node too: %s; look at onlinkctl blocks there and at its bgp.originate", block, strings.Join(slices.Compact(texts), ", ")))
	}
	return lines
}

// rivalText names an announcement: the prefix, who it leads to, who told us.
func rivalText(r bgp.Rival) string {
	text := fmt.Sprintf("%s with next hop %s", r.Prefix, r.NextHop)
	if r.ASPath != "" {
		text += " and AS path " + r.ASPath
	}
	if r.Peer != r.NextHop {
		text += ", heard from " + r.Peer.String()
	}
	return text
}
