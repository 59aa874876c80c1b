package render

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"onlink/kube/api/v1alpha1"
)

// chooseNamespaces finds the namespaces with other pools than the default, which is
// every pool for pods that is not manual and has no namespaceSelector. The
// annotation onlink.io/pools is the whole choice; without it the pools that select
// the namespace come first, then those of the default, each by name.
func chooseNamespaces(in *Input, pools *poolSet, l *ledger) {
	var usual, selective []*rangePool
	known := map[string]bool{}
	list := pools.entries()
	for i := range list {
		p := &list[i]
		known[p.name] = true
		switch {
		case p.manual:
		case !p.namespaces.Empty():
			selective = append(selective, p)
		default:
			usual = append(usual, p)
		}
	}
	unknown := map[string][]string{} // pool -> namespaces
	for _, ns := range in.Namespaces {
		text, ok := ns.Annotations[v1alpha1.PoolsAnnotation]
		var names []string
		for _, name := range splitNames(text) {
			if known[name] {
				names = append(names, name)
			} else {
				unknown[name] = append(unknown[name], ns.Name)
			}
		}
		if ok && len(names) > 0 {
			l.out.Namespaces[ns.Name] = names
			continue
		}
		for _, p := range selective {
			if p.namespaces.Matches(labels.Set(ns.Labels)) {
				names = append(names, p.name)
			}
		}
		if len(names) == 0 {
			continue
		}
		for _, p := range usual {
			names = append(names, p.name)
		}
		l.out.Namespaces[ns.Name] = names
	}
	for _, name := range keys(unknown) {
		l.problem("annotation %s names %q, which is no IPPool for pods of this node: %s; correct it, until then the name is ignored",
			v1alpha1.PoolsAnnotation, name, namespaces(unknown[name]))
	}
}

func namespaces(names []string) string {
	if len(names) == 1 {
		return "namespace " + names[0]
	}
	return fmt.Sprintf("%d namespaces, %s", len(names), some(names))
}

// splitNames returns the names of a comma-separated list, each once.
func splitNames(text string) (names []string) {
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
