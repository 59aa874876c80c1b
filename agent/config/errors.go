package config

import "onlink/internal/strictyaml"

// Mistakes in the file are those of the reader.
type (
	// Error is one mistake: file, line, field, and what to write instead.
	Error = strictyaml.Error
	// Errors is the mistakes of one file.
	Errors = strictyaml.Errors //nolint:errname // a list, as there
	// Places knows the lines of a file, for mistakes that are found when more is
	// known than the file: what networks the node has, say.
	Places = strictyaml.Places
)

// ErrInvalid is what every mistake in the file is: errors.Is(err, ErrInvalid)
// tells a file that must be corrected from one that could not be read.
var ErrInvalid = strictyaml.ErrInvalid
