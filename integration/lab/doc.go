// Package lab builds small data centres out of network namespaces: racks with
// a switch, top-of-rack routers (real BIRD 2 or FRR), nodes that run the real
// onlinkd, reflectors, pods made through libcni, and the tools to look at them
// (ping, TCP transfers, continuous flows, packet capture, route dumps).
//
// Everything is made with netlink and sockets opened inside the namespaces;
// programs are started only for what is under test (bird, FRR, onlinkd,
// onlink-cni, onlinkctl), because starting one costs 20 to 50 times more in
// user-mode Linux than on the machine itself.
//
// A [Lab] is safe for concurrent use by several goroutines after [Build]
// returned, except for Close, which must come last. It needs root. It owns the
// namespaces /run/netns/NAME.* and the directory /run/onlink-lab/NAME, and
// refuses to start while another living process holds the same name; what a
// crashed run with that name left behind is removed first.
package lab
