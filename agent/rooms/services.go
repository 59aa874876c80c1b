package rooms

import (
	"onlink/agent/announce"
	"onlink/bgp"
)

// Services returns announcements of owners in the speaker's terms; leaving: the node
// leaves, as RFC 8326 has it.
func Services(list []announce.Announcement, leaving bool) []bgp.Origin {
	out := make([]bgp.Origin, 0, len(list))
	for i := range list {
		one := &list[i]
		out = append(out, bgp.Origin{
			Prefix: one.Prefix, Communities: one.Communities, LocalPref: one.LocalPref, MED: one.MED, Peers: one.Peers,
			Draining: leaving || one.GracefulShutdown, Service: true,
		})
	}
	return out
}
