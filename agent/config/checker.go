package config

import (
	"onlink/bgp/policy"
	"onlink/internal/strictyaml"
)

// checker finds the values that are valid alone and contradict each other.
type checker struct {
	*strictyaml.Document
}

// report adds faults, except those of fields with a mistake already: they would
// only repeat it.
func (p *checker) report(faults []policy.Fault) {
	added := map[string]bool{}
	for _, f := range faults {
		if added[f.Path] || !p.Failed(f.Path) {
			added[f.Path] = true
			p.Fail(f.Path, "%s", f.Text)
		}
	}
}
