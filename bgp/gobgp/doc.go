// Package gobgp runs the BGP engine, GoBGP v3: it is the only package that
// imports it. What crosses its border is a plain type of its own, of packages
// policy and session or of the standard library, so another engine is another
// folder beside this one.
//
// It decides nothing: package bgp says which sessions, prefixes and policy there
// are; this package passes them to the engine and translates what the engine
// answers. What only a patched engine can do (bgp/engine) is found out at run
// time; each method says what it returns without.
//
// An [Engine] may be used from any goroutine, except for [Engine.InstallPolicy].
// Its calls are local and quick, so they take no context: a caller that gives up
// must leave no half-made change.
package gobgp
