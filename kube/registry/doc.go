// Package registry keeps the block registry as objects of the Kubernetes API and
// serves it to the agent of the same node.
//
// # Objects
//
// A claim is a [v1alpha1.Block] that is named after its range, so that of two nodes
// the first creates it. A released one stays as an object without a node, for its
// epoch; the next claim of the range is an update with its resourceVersion, and the
// controller deletes what stays free. The machine that holds a node's name
// ([ipam.Admit]) is the holder of the Lease onlink-NODE, which every assert renews.
//
// # Epochs
//
// An epoch is greater than that of the object before, and not below the wall clock
// in microseconds: where objects were deleted the later claim still has the greater
// epoch.
//
// # Writes of two objects
//
// The API has no transaction over a Block and a Lease. A claim therefore reads the
// Lease again after its Block exists, and where the node has the Block already it
// renews the Lease and reads the Block again: a machine that lost its name in between
// gets no answer to use, and the Block is the new holder's. A new claim lists blocks of
// other lengths at that moment too, because names show the overlap of equal lengths
// only.
//
// An assert of a recorded block writes to the Lease alone. The controller therefore
// frees a Block in two writes with a look at the Lease in between, and an assert takes
// back the first of them, see [DoubtedAnnotation].
//
// # Loss
//
// Where Blocks went with their CRD, or etcd was restored, a search finds ranges free that
// machines use. Each claim lists the node's own Blocks first; a node without one looks at
// Blocks that the Leases of others name. What lacks delays claims for two periods, in
// which every machine asserts its own.
package registry
