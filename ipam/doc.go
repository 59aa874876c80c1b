// Package ipam owns pools, blocks and addresses: the blocks of a pool that this
// node holds, and the attachment of each of their addresses.
//
// # The source of truth
//
// The node's own file (bbolt, opened only here, by [OpenStore]) is the truth
// about its addresses: an assign or a release needs no other machine. The
// [Registry] is the truth about who owns a block; [BoltRegistry] keeps it in
// the same kind of file, other implementations may sit behind gRPC or etcd.
//
//	Assign ─ decide in memory ─┬─> queue ─> committer: one transaction ─> reply
//	                           └─> no address: claim a block ─┐
//	Registry <── claim, assert, release ── registry loop <────┘
//
// Decisions are made in memory under one mutex; one committer goroutine drains
// the queue into one bbolt transaction and answers every caller in it (group
// commit, no timer). Nothing is answered before its commit, so a crash between
// any two steps loses no address and gives none twice.
// any two steps loses no address and assigns none twice.
// # Rules
//
// A node assigns from its own blocks only: no borrowed addresses. It keeps one
// empty block ahead, so that a pod does not wait for a claim. Freed addresses
// cool down before they are used again, least recently freed first, also over
// a restart. All addresses of a block can be assigned, the first and the last
// one too, as in Calico: pods have /32 (/128) routes, so there is neither a
// network nor a broadcast address. An operator who reserves the .0 of a pool
// names it in [Pool].Reserved.
//
// A block whose ownership the registry denies (fencing by epoch) is not
// confirmed any more: it must not be announced and gives no new address, while
// the pods that have its addresses keep them.
//
// # Parts of the allocator
//
// [Allocator] decides about requests. Its memory has parts with a state of
// their own, all under one mutex: stock (pools, blocks, assignments), workloads
// (sticky addresses), quarantines, doubts, and tenure (this machine's right to
// its blocks). The queue makes decisions durable in their order; the
// registrar alone calls the registry.
//
// # Concurrency
//
// [Store], [BoltRegistry] and [Allocator] are safe for concurrent use.
// [Allocator.Run] starts the goroutines and ends them; constructors start none.
//
// The package does not guess: a file that cannot be trusted (damaged, of another
// program, of a newer version) is an error, never an empty start.
package ipam
