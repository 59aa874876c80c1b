// Package remote is the block registry over gRPC, both ends of its wire: a
// [Server] lends this agent's registry to the other nodes, a [Registry] is the
// registry of another agent. The errors of [ipam.Registry] survive the wire, a
// [ipam.HeldError] with all that it holds.
//
// The server answers no pod, binds each caller to its node, and bounds the
// calls and connections of one address. With TLS every caller must show a certificate
// of the configured authority, whose role permits the call (rights.go), and a node's
// serves for its own name alone; without, a node is known by the address that it calls
// from.
package remote
