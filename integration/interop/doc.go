// Package interop runs other BGP implementations as Debian has them (BIRD,
// FRR, ExaBGP, gobgpd), each as a router with one session, so that tests hold
// onlink against them: it writes their configuration, starts and freezes their
// programs in a namespace of the lab, and asks them what they learned.
//
// It knows nothing of onlink. A [Router] is not safe for concurrent use.
package interop
