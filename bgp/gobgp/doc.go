// Package gobgp runs the BGP engine, GoBGP v3: it is the only package that
// imports it. All types of its interface are its own plain ones, those of packages
// policy and session or of the standard library, so another engine is another
// folder beside this one.
//
// It decides nothing: package bgp gives it sessions, prefixes and policy; it
// passes them to the engine and translates the engine's answers. It finds out at
// run time whether the engine has the patches of bgp/engine; each method that
// needs one documents its result without.
//
// An [Engine] may be used from any goroutine, except for [Engine.InstallPolicy].
// Its calls are local and quick, so they take no context: a caller that gives up
// must leave no half-made change.
package gobgp
