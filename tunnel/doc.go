// Package tunnel makes onlink's tunnel devices exist as they should: one
// device a kind, without a remote address, so that every route names its own
// far end (via NODE dev onlink-ipip onlink).
//
//	onlink-ipip   ipip    IPv4 in IPv4 (RFC 2003)
//	onlink-ip6    ip6tnl  IPv4 and IPv6 in IPv6 (RFC 2473)
//	onlink-vxlan  vxlan   both, in UDP over IPv4 (RFC 7348)
//	onlink-vxlan6 vxlan   both, in UDP over IPv6
//
// A VXLAN device learns nothing from packets: [Ensurer.AddNodes] and
// [Ensurer.KeepNodes] write the neighbour and forwarding entries of the other
// nodes.
//
// A device is recognised by name, kind and its alias "onlink". What somebody
// else made is never changed. [Ensurer.Ensure] may be called as often as one
// likes: it repairs what differs and says where the kernel has dropped routes
// on the way. An [Ensurer] belongs to one goroutine and to the network
// namespace of the thread that first uses it.
package tunnel
