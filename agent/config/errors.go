package config

import (
	"fmt"

	"onlink/internal/strictyaml"
)

// Mistakes in the file are those of the reader.
type (
	// Error is one mistake: file, line, field, and the correction.
	Error = strictyaml.Error
	// Errors is the mistakes of one file.
	Errors = strictyaml.Errors //nolint:errname // a list, as there
)

// Places holds the lines of a file's values, for mistakes that appear only
// beside facts from elsewhere, such as the networks of the node.
type Places struct {
	strictyaml.Places

	peers []int // of each peer of this node its index in the file; nil: the same
}

// Equal reports true: where a value stands does not matter.
func (Places) Equal(Places) bool { return true }

// Peer returns the field of a peer of [BGP].Peers in the file, which may have
// peers of other nodes before it.
func (p Places) Peer(i int) string {
	if i < len(p.peers) {
		i = p.peers[i]
	}
	return fmt.Sprintf("bgp.peers[%d]", i)
}

// ErrInvalid is wrapped by every mistake in the file: errors.Is(err, ErrInvalid)
// tells a file that must be corrected from one that could not be read.
var ErrInvalid = strictyaml.ErrInvalid
