// Package hostile holds malformed BGP messages and sequences, each with what
// must come of it by RFC 4271, 7606 and their kin, well-formed claims on what is
// somebody else's, and a peer that sends them.
// It is for tests: those of bgp, in process, and those of a whole agent.
package hostile
