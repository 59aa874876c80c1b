// Package etcd keeps the block registry in an etcd cluster (v3 API, 3.4 or
// later).
//
// # Keys
//
//	PREFIX blocks/FAMILY/ADDRESS/LENGTH       record: the owner of the block
//	PREFIX nodes/NODE/FAMILY/ADDRESS/LENGTH   the same record, by node
//	PREFIX fences/FAMILY/ADDRESS/LENGTH       epoch: released by force up to it
//	PREFIX holders/NODE                       the machine that holds the name
//	PREFIX alive/NODE                         its instance, on a lease of two of its periods
//	PREFIX base                               the floor of all epochs
//
// ADDRESS is hexadecimal with a fixed length, so that keys sort as addresses
// do and the blocks of a range of addresses are a range of keys.
//
// # One transaction
//
// A claim is one transaction: if there is no key in the block's range and none
// of the blocks that could contain it, both records are put. A node searches a
// free block from its own starting point, a page of keys at a time, so that
// concurrent claims neither list everything nor compete for one block.
//
// # One machine per name
//
// Every transaction of a node compares the revision of its holder's key, so
// that a machine which has lost its name writes nothing. An assert renews the
// lease of the other key: etcd's clock alone decides whether a machine is silent.
//
// # Epochs
//
// The epoch of a claim is PREFIX base plus the revision of its transaction:
// etcd's revision grows with every write. The base is the time at which the
// registry was first used, in microseconds, so that a cluster which lost its
// data begins above what nodes still hold.
package etcd
