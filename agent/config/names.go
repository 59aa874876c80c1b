package config

import (
	"path"
	"strings"

	"onlink/internal/strictyaml"
)

// maxInterfaceName is IFNAMSIZ less the final zero (netdevice(7)).
const maxInterfaceName = 15

// device reads the name of a network interface.
func device(dst *string) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		s, ok := v.Text("the name of an interface")
		if !ok {
			return
		}
		if s == "" || len(s) > maxInterfaceName || strings.ContainsAny(s, ":/% \t\n") {
			v.Fail("%q is not the name of an interface; use one such as eth1", s)
			return
		}
		*dst = s
	}
}

// selects reports whether every label of a selector is one of the node's, with a
// value that matches.
func selects(selector, labels map[string]string) bool {
	for key, pattern := range selector {
		have, ok := labels[key]
		if !ok {
			return false
		}
		if match, err := path.Match(pattern, have); err != nil || !match {
			return false
		}
	}
	return true
}

// labels reads a mapping of words, whose values are patterns in a selector.
func labels(dst *map[string]string, selector bool) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.Pairs(func(key string, child strictyaml.Value) {
			s, ok := child.Text("a word")
			if !ok {
				return
			}
			if _, err := path.Match(s, ""); err != nil && selector {
				child.Fail("%q is not a pattern; use a word, * and ?", s)
				return
			}
			if *dst == nil {
				*dst = map[string]string{}
			}
			(*dst)[key] = s
		})
	}
}

// patterns reads a list of names with wildcards.
func patterns(dst *[]string) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		v.List(func(e strictyaml.Value) {
			s, ok := e.Text("a name or a pattern")
			if !ok {
				return
			}
			if _, err := path.Match(s, ""); err != nil || s == "" {
				e.Fail("%q is not a pattern; use a name, * and ?", s)
				return
			}
			*dst = append(*dst, s)
		})
	}
}
