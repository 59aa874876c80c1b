// Package controller is what onlink does for a whole cluster: addresses of Services
// of type LoadBalancer, the blocks of deleted nodes, the status of configuration
// objects, the first objects, the taint of new Nodes, and the certificates of agents. Two replicas run; the one
// that holds the Lease controller.onlink.io works.
//
// Each part is a loop of its own over the same caches: an event or a timer begins a
// turn, and a turn computes everything anew. An error ends the turn, is logged, and
// the next turn begins after a moment.
package controller
