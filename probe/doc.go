// Package probe sends a few packets along a path and reports the answers: an
// ICMP echo from a network namespace (RFC 792, RFC 4443), a TCP connection where
// an echo stays without an answer, and an ARP or neighbour solicitation on one
// device (RFC 826, RFC 4861). It finds losses that no table of the kernel shows.
//
// A probe changes nothing but the kernel's neighbour entries, as any packet does.
// A [Prober] bounds the packets of a second, and each probe the time of its
// context. Answers that belong to no probe are passed over. The package decides
// nothing about a path. Any number of goroutines may use one Prober.
package probe
