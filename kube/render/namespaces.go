package render

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"onlink/kube/api/v1alpha1"
)

// chooseNamespaces finds the namespaces with other pools than the default, which is
// every pool for pods that is not manual and has no namespaceSelector. The
// annotation onlink.io/pools is the whole choice; without it the pools that select
// the namespace come first, then those of the default, each by name.
func chooseNamespaces(in *Input, pools *poolSet, l *ledger) {
	c := choices{known: map[string]bool{}, unknown: map[string][]string{}}
	list := pools.entries()
	for i := range list {
		p := &list[i]
		c.known[p.name] = true
		switch {
		case p.manual:
		case !p.namespaces.Empty():
			c.selective = append(c.selective, p)
		default:
			c.usual = append(c.usual, p.name)
		}
	}
	for _, ns := range in.Namespaces {
		names := c.named(ns)
		if len(names) == 0 {
			names = c.selected(ns)
		}
		if len(names) > 0 {
			l.out.Namespaces[ns.Name] = names
		}
	}
	for _, name := range keys(c.unknown) {
		l.problem("annotation %s names %q, which is no IPPool for pods of this node: %s; correct it, until then the name is ignored",
			v1alpha1.PoolsAnnotation, name, namespaces(c.unknown[name]))
	}
}

// choices are the pools that namespaces can have.
type choices struct {
	known     map[string]bool
	usual     []string            // of the default
	selective []*rangePool        // with a namespaceSelector
	unknown   map[string][]string // names of no pool, and the namespaces that have them
}

// named returns the pools of a namespace's annotation.
func (c *choices) named(ns *metav1.PartialObjectMetadata) (names []string) {
	for _, name := range splitNames(ns.Annotations[v1alpha1.PoolsAnnotation]) {
		if c.known[name] {
			names = append(names, name)
		} else {
			c.unknown[name] = append(c.unknown[name], ns.Name)
		}
	}
	return names
}

// selected returns the pools of a namespace that a pool selects, nil for others.
func (c *choices) selected(ns *metav1.PartialObjectMetadata) (names []string) {
	for _, p := range c.selective {
		if p.namespaces.Matches(labels.Set(ns.Labels)) {
			names = append(names, p.name)
		}
	}
	if len(names) > 0 {
		names = append(names, c.usual...)
	}
	return names
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
