package config

import (
	"maps"
	"slices"

	"onlink/internal/strictyaml"
)

// groups are the peer groups of the file, by name: the common keys of several
// peers, written once. A peer of a group is read as if it had the group's keys
// that it lacks; inside import, export and bfd key by key. Lists are not joined.
// A group with a mistake is present and not usable.
type groups map[string]group

type group struct {
	keys   strictyaml.Value
	usable bool
}

// groupsOf finds the groups in the mapping of bgp, wherever they stand in it,
// and reads each as a peer, so that a mistake is reported once and at its place.
func groupsOf(v strictyaml.Value, read func(strictyaml.Value)) groups {
	found := groups{}
	if list, ok := v.Get("groups"); ok {
		list.Pairs(func(name string, keys strictyaml.Value) {
			found[name] = group{keys, readGroup(keys, read)}
		})
	}
	return found
}

// readGroup reports whether a group has no mistake. A group must not set name,
// address or group: they identify one peer.
func readGroup(v strictyaml.Value, read func(strictyaml.Value)) bool {
	read(v)
	for _, key := range []string{"name", "address", "group"} {
		if _, given := v.Get(key); given {
			v.FailKey(key, "is not for a group; write it in the peer")
		}
	}
	return !v.Failed()
}

// expand returns the peer with the keys of its group.
func (g groups) expand(v strictyaml.Value) strictyaml.Value {
	if g == nil {
		return v // a group has none itself
	}
	name, given := v.Get("group")
	var text string
	if !given || name.IsNull() || !name.IsScalar() || name.Decode(&text) != nil {
		return v // the last two are mistakes, which the schema reports
	}
	group, known := g[text]
	if !known {
		name.Fail("%s is not one of bgp.groups; %s", name.Kind(), strictyaml.Suggest(text, slices.Sorted(maps.Keys(g))))
	}
	if group.usable {
		v = v.With(group.keys)
	}
	return v
}
