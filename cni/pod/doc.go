// Package pod wires pods in the kernel: the veth between a pod's network
// namespace and the host's, with its addresses, routes and neighbours. It contains
// neither the CNI protocol nor databases; package cni calls it.
//
//	connect: veth, addresses, routes, neighbours, in service
//	retire:  host end down and in the group of the ended; the routes go with it
//	reap:    the veths of the ended, many at once
//
// A [Host] is the namespace that pods are wired to. Its methods may be called
// from many goroutines, never at once for one attachment: a namespace is
// entered by threads of its own, two for the wiring and one for all work that
// must not keep it waiting.
//
// The package refuses to change foreign state: interfaces that are not
// veth ends of its own, and routes of other protocols. See "Identity in the
// kernel" of DESIGN.md.
package pod
