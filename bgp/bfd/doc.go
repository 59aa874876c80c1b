// Package bfd detects within a fraction of a second that a neighbour's packets
// have stopped: Bidirectional Forwarding Detection in asynchronous mode, over
// one hop (RFC 5880, RFC 5881) or several (RFC 5883). It is independent of BGP:
// its user acts on the end of a session.
//
// A [Monitor] runs the sessions of [Monitor.Set] on one thread, which waits in
// poll(2), never logs, and reads all packets that have arrived before it takes a
// session down. A [Process] is a Monitor in a process of its own with real-time
// scheduling. An agent needs that: otherwise a busy Go runtime or a busy machine
// delays its packets.
//
// Left out of RFC 5880: authentication (packets that carry it are dropped),
// the echo function (0 is announced), demand mode on our side (a neighbour's
// is honoured) and the passive role.
package bfd
