// Package bfd notices within a fraction of a second that a neighbour's packets
// have stopped: Bidirectional Forwarding Detection in asynchronous mode, over
// one hop (RFC 5880, RFC 5881) or several (RFC 5883). It knows no BGP; what a
// lost session means is its user's to decide.
//
// A [Monitor] keeps the set of sessions it is given with [Monitor.Set] on one
// thread, which waits in poll(2), never logs, and reads everything that has
// arrived before it calls a neighbour dead. A [Process] is a Monitor in a
// process of its own with real-time scheduling: what an agent wants, because
// there neither a busy Go runtime nor a busy machine delays its packets.
//
// Left out of RFC 5880: authentication (packets that carry it are dropped),
// the echo function (0 is announced), demand mode on our side (a neighbour's
// is honoured) and the passive role.
package bfd
