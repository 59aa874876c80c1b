// Package bgp is onlink's BGP speaker (RFC 4271): sessions, route reflection
// (RFC 4456), origination and withdrawal of this node's prefixes, import and
// export policy, graceful restart (RFC 4724, RFC 8538) and best-path events.
//
// It knows no engine's types: package gobgp runs the engine. Callers say what
// they want (the set of peers, the set of originated prefixes) and the speaker
// changes only what differs, so that an edit of one peer never resets another.
//
// Which routes are accepted and announced is decided by package policy, which
// knows no engine either. The node is no transit: it exports its own prefixes
// only and, on a reflector, the routes of its iBGP clients. From an eBGP peer
// without an import rule nothing is accepted, and to one without Export.Own
// nothing is announced (RFC 8212).
//
// The engine is built with the patches of bgp/engine, without which what a
// peer sends can end the process; a plain go build leaves them out, and
// [Engine] says so.
//
// All methods of [Speaker] may be called from any goroutine.
//
// # TCP MD5 and multipath TCP
//
// Since Go 1.24 a listening socket is a multipath TCP socket by default, and
// the kernel ignores TCP_MD5SIG keys on those: a peer without the password
// is then accepted. GoBGP v3 does not know; every main package and every test
// package with a listener carries the directive
//
//	//go:debug multipathtcp=0
package bgp
