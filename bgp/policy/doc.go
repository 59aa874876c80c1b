// Package policy decides which routes this node accepts from its BGP peers and
// which it announces to them.
//
// The configuration of the peers ([Import], [Export], with filters) and the rules
// that no filter lifts (no transit, RFC 1997, RFC 8212, RFC 8326, own prefixes)
// become one [Plan]: a list of statements. Package bgp/gobgp translates them for
// its engine; [Plan.Import] and [Plan.Export] run them on one route and name every
// rule that had a part in the verdict. A [Guard] refuses prefixes of the pools and
// next hops that no policy may accept (see [Owners], [Network]).
//
// The package is pure: standard library only, no goroutine, no lock, no engine.
// Each type that comes from a configuration file has a Validate that returns
// every [Fault] with its key.
package policy
