package strictyaml

import (
	"maps"
	"slices"
)

// Keys returns the keys that a schema offers, sorted; those of the elements of
// a list as servers[].port. The reader is called with a value that is in no
// file: it is a mapping, has no mistake, and leaves every default.
func Keys(read func(Value)) []string {
	d := &Document{lines: map[string]int{}, keys: map[string]bool{}}
	read(Value{d: d})
	return slices.Sorted(maps.Keys(d.keys))
}
