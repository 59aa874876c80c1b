package config

import "onlink/internal/strictyaml"

// Edit changes one entry of a list of the file.
type Edit struct {
	List EditList
	// Name is the entry's name, for a peer without one its address.
	Name string
	// Entry is the entry as YAML, which replaces the one of that name or is
	// appended; "" removes it.
	Entry string
}

// EditList is a list that can be edited: its path in the file.
type EditList string

// The values of EditList.
const (
	EditPeers   EditList = "bgp.peers"
	EditFilters EditList = "bgp.filters"
)

// named are the keys that tell one entry of these lists from another.
var named = []string{"name", "address"}

// Apply returns the text with all edits made, in their order; comments stay,
// indentation and blank lines become uniform. It does not check the result: see
// [Parse].
func Apply(text []byte, edits []Edit) ([]byte, error) {
	list := make([]strictyaml.Edit, len(edits))
	for i, e := range edits {
		list[i] = strictyaml.Edit{List: string(e.List), By: named, Name: e.Name, Entry: e.Entry}
	}
	return strictyaml.Apply(text, list)
}

// EntryName returns the name in an entry's YAML, for a peer without a name its
// address.
func EntryName(entry string) (string, error) { return strictyaml.EntryName(entry, named...) }
