package config

import "onlink/internal/strictyaml"

// Mistakes in the file are those of the reader.
type (
	// Error is one mistake: file, line, field, and the correction.
	Error = strictyaml.Error
	// Errors is the mistakes of one file.
	Errors = strictyaml.Errors //nolint:errname // a list, as there
	// Places holds the lines of a file's values, for mistakes that appear only
	// beside facts from elsewhere, such as the networks of the node.
	Places = strictyaml.Places
)

// ErrInvalid is wrapped by every mistake in the file: errors.Is(err, ErrInvalid)
// tells a file that must be corrected from one that could not be read.
var ErrInvalid = strictyaml.ErrInvalid
