// Package bgp is onlink's BGP speaker (RFC 4271): sessions, route reflection
// (RFC 4456), origination and withdrawal of this node's prefixes, import and
// export policy, graceful restart (RFC 4724, RFC 8538) and best-path events.
//
// It has no types of the engine, which package gobgp runs. Callers set the
// desired peers and originated prefixes as whole sets, and the speaker changes
// only the differences, so that an edit of one peer never resets another.
//
// Package policy, which has no types of the engine either, decides which routes
// are accepted and announced. The node is no transit: it exports only its own
// prefixes and, on a reflector, the routes of its iBGP clients. It accepts
// nothing from an eBGP peer without an import rule, and announces nothing to one
// without Export.Own (RFC 8212).
//
// The engine is built with the patches of bgp/engine. Without them a message of
// a peer can end the process. A plain go build leaves them out; [Engine] reports
// it.
//
// All methods of [Speaker] may be called from any goroutine.
//
// # TCP MD5 and multipath TCP
//
// Since Go 1.24 a listening socket is a multipath TCP socket by default, and
// the kernel ignores TCP_MD5SIG keys on those: a peer without the password
// is then accepted. GoBGP v3 does not turn that off, so every main package and
// every test package with a listener carries the directive
//
//	//go:debug multipathtcp=0
package bgp
