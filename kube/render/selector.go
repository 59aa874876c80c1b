package render

import (
	"cmp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// selector returns the selector of a field; an absent one selects everything. One
// with a mistake is recorded, and selects nothing.
func selector(c *checks, field string, s *metav1.LabelSelector) labels.Selector {
	if s == nil {
		return labels.Everything()
	}
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		c.failf(field, "%v; correct it as in kubectl explain %s", err, strings.TrimPrefix(field, "spec."))
		return labels.Nothing()
	}
	return sel
}

// selects reports whether a selector without a mistake selects the labels.
func selects(s *metav1.LabelSelector, set labels.Set) bool {
	return selector(&checks{}, "", s).Matches(set)
}

// plainName reports whether an object has a name that the agent's file can have.
func plainName(name string) bool { return strings.TrimSpace(name) != "" }

func compareNames(a, b string) int { return strings.Compare(a, b) }

func byName(a, b member) int { return cmp.Compare(a.name, b.name) }
