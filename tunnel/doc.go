// Package tunnel creates and repairs onlink's tunnel devices: one device a kind,
// without a remote address, so that every route names its own far end (via NODE
// dev onlink-ipip onlink).
//
//	onlink-ipip   ipip    IPv4 in IPv4 (RFC 2003)
//	onlink-ip6    ip6tnl  IPv4 and IPv6 in IPv6 (RFC 2473)
//	onlink-vxlan  vxlan   both, in UDP over IPv4 (RFC 7348)
//	onlink-vxlan6 vxlan   both, in UDP over IPv6
//
// A VXLAN device does not learn addresses: [Ensurer.AddNodes] and
// [Ensurer.KeepNodes] write the neighbour and forwarding entries of the other
// nodes.
//
// A device is recognised by its kind and its alias "onlink"; a foreign device is
// never changed. [Ensurer.Ensure] may be called at any rate: it repairs the
// differences and reports the devices whose routes the kernel has dropped
// meanwhile. An [Ensurer] belongs to one goroutine and to the network namespace
// of the thread that first uses it.
package tunnel
