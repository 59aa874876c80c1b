// Package cni is the agent's half of the CNI plugin: the protocol, and the order
// of a request's steps. The runtime starts onlink-cni (package cni/shim),
// which passes its environment and stdin to the [Server] in the agent; the
// server reads them, has [IPAM] assign addresses and package cni/pod make the
// pod's veth, and answers with the text that the shim prints.
//
//	ADD: address committed -> route announced to the learn loop -> veth, addresses and routes -> answer
//	DEL: veth out of service -> route withdrawn from the learn loop -> answer; then
//	     veth removed, many at once -> address released
//
// An ADD that fails at any step undoes the ones before it; so does one whose
// shim was killed, which cancels the request. The order and the names in the
// kernel are fixed by DESIGN.md, "Pod routes and the sweep" and "Identity in the
// kernel".
//
// The [Server] serves the protocol. Its parts have a job each: the connector
// connects and disconnects one pod, in the order above; the collector frees the
// attachments of pods that are gone; the tender keeps the host ends of running
// pods as ADD made them; the prober tests whether this node can connect a pod.
//
// A [Server] may be used from many goroutines; requests for one attachment are
// served one after the other. See the CNI specification 1.1.0,
// https://www.cni.dev/docs/spec/.
package cni
