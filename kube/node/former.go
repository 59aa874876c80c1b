package node

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"onlink/kube/render"
)

// formers are the reflectors that are none any more, by name: their sessions may stay
// while they are heard. The entry of a reflector in the agent's file may look like that of
// a BGPPeer, so that only what this process saw tells them apart.
type formers struct {
	known map[string]bool // the reflectors of the last turn
	gone  map[string]bool
}

// see compares the reflectors with those of the last turn, and returns the former ones.
func (f *formers) see(reflectors []*corev1.Node) []string {
	now := map[string]bool{}
	for _, n := range reflectors {
		if render.IsReflector(n) {
			now[n.Name] = true
			delete(f.gone, n.Name)
		}
	}
	for name := range f.known {
		if !now[name] {
			if f.gone == nil {
				f.gone = map[string]bool{}
			}
			f.gone[name] = true
		}
	}
	f.known = now
	return slices.Sorted(maps.Keys(f.gone))
}

// stay forgets the others: of one without a session in force nothing can stay.
func (f *formers) stay(names []string) {
	maps.DeleteFunc(f.gone, func(name string, _ bool) bool { return !slices.Contains(names, name) })
}
