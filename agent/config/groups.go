package config

import (
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// groups are the peer groups of the file, by name: what several peers have in
// common, written once. A peer of a group is read as if the group's keys that
// it does not have itself were its own; inside import, export and bfd key by
// key. Lists are not joined.
type groups map[string]*yaml.Node

// groupsOf finds the groups in the mapping of bgp, wherever they stand in it,
// and reads each, so that a mistake is told once and at its place.
func groupsOf(v value) groups {
	v = v.resolve()
	found := groups{}
	for i := 0; v.n.Kind == yaml.MappingNode && i+1 < len(v.n.Content); i += 2 {
		if v.n.Content[i].Value == "groups" {
			list := value{p: v.p, path: join(v.path, "groups"), n: v.n.Content[i+1]}
			list.pairs(func(name string, group value) { readGroup(name, group, found) })
			break
		}
	}
	return found
}

// readGroup reads one group into found. What it shall not have is refused:
// what tells one peer from another.
func readGroup(name string, v value, found groups) {
	offered := v.p.keys // a group has a peer's keys, which are known from peers
	v.p.keys = map[string]bool{}
	defer func() { v.p.keys = offered }()
	found[name] = nil // known, and of no use to a peer while it has a mistake
	readPeer(v, nil)
	for i := 0; v.n.Kind == yaml.MappingNode && i+1 < len(v.n.Content); i += 2 {
		if key := v.n.Content[i].Value; key == "name" || key == "address" || key == "group" {
			v.p.fail(join(v.path, key), "is not for a group; write it in the peer")
		}
	}
	if !v.p.failed(v.path) {
		found[name] = v.n
	}
}

// expand returns the peer with what its group adds.
func (g groups) expand(v value) value {
	for i := 0; g != nil && v.n.Kind == yaml.MappingNode && i+1 < len(v.n.Content); i += 2 {
		if v.n.Content[i].Value != "group" {
			continue
		}
		name := value{p: v.p, path: join(v.path, "group"), n: v.n.Content[i+1]}.resolve()
		if name.null() || name.n.Kind != yaml.ScalarNode {
			return v // the latter is told when it is read
		}
		group, known := g[name.n.Value]
		if !known {
			v.p.lines[name.path] = v.n.Content[i].Line
			name.fail("%s is not one of bgp.groups; %s", name.kind(), suggest(name.n.Value, slices.Sorted(maps.Keys(g))))
		}
		if group != nil {
			v.n = merged(v.n, group)
		}
		return v
	}
	return v
}

// merged returns own with the keys of more that it does not have.
func merged(own, more *yaml.Node) *yaml.Node {
	if own.Kind == yaml.AliasNode {
		own = own.Alias
	}
	if more.Kind == yaml.AliasNode {
		more = more.Alias
	}
	if own.Kind != yaml.MappingNode || more.Kind != yaml.MappingNode {
		return own
	}
	out := *own
	out.Content = slices.Clone(own.Content)
	at := map[string]int{} // place of the value of each key
	for i := 0; i+1 < len(own.Content); i += 2 {
		at[own.Content[i].Value] = i + 1
	}
	for i := 0; i+1 < len(more.Content); i += 2 {
		key, n := more.Content[i], more.Content[i+1]
		if place, has := at[key.Value]; has {
			out.Content[place] = merged(own.Content[place], n)
		} else {
			out.Content = append(out.Content, key, n)
		}
	}
	return &out
}
