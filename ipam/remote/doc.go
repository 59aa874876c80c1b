// Package remote is the block registry over gRPC, both ends of its wire: a
// [Server] lends this agent's registry to the other nodes, a [Registry] is the
// registry of another agent. The errors of [ipam.Registry] survive the wire, a
// [ipam.HeldError] with all that it holds.
//
// The server answers no pod, binds each caller to its node, and bounds the
// calls and connections of one address. It does not authenticate by itself:
// with TLS every caller must show a certificate of the configured authority.
package remote
