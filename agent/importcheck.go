package agent

import (
	"context"
	"fmt"
	"strings"

	"onlink/bgp"
)

// refusedBlocks returns a line for each block that somebody announces who does
// not own it, or parts of, or what it is a part of.
func refusedBlocks(list []bgp.Intrusion) []string {
	byBlock := map[string][]string{}
	for _, i := range list {
		text := fmt.Sprintf("%s with next hop %s", i.Prefix, i.NextHop)
		if i.Peer != i.NextHop {
			text += ", heard from " + i.Peer.String()
		}
		block := fmt.Sprintf("block %s: belongs to node %s", i.Block, i.Owner)
		byBlock[block] = append(byBlock[block], text)
	}
	lines := make([]string, 0, len(byBlock))
	for block, texts := range byBlock {
		lines = append(lines, fmt.Sprintf("%s, and is announced by another node: %s: refused; look at onlinkctl blocks there and at its bgp.originate", block, strings.Join(texts, ", ")))
	}
	return lines
}

// explainRefused tells what peers announce for the address and import refuses.
// It reports whether there is something.
func (a *agent) explainRefused(ctx context.Context, e *explanation, ok bool) bool {
	found := false
	for _, r := range a.speaker.Announced(ctx, e.addr) {
		if r.Verdict.Accepted {
			continue
		}
		found = true
		e.add(ok, "import", "%s next hop %s, announced by %s (%s), refused by its import: %s", r.Route.Prefix, r.Route.NextHop, r.Name, r.Peer, r.Verdict.Rule)
	}
	return found
}
