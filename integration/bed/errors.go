package bed

import "errors"

var (
	// ErrTests is returned by Test when a test failed, died, or was skipped in
	// every bed; the details are already on the output.
	ErrTests = errors.New("tests failed")

	// ErrNotRoot is returned where namespaces or packages need root.
	ErrNotRoot = errors.New("must run as root")

	// ErrInstall is returned when Debian's packages could not be installed.
	ErrInstall = errors.New("packages could not be installed")
)
