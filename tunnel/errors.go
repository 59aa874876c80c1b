package tunnel

import "errors"

var (
	// ErrUnsupported is returned when the kernel has no devices of the kind
	// and could not load the module.
	ErrUnsupported = errors.New("not supported by this kernel")
	// ErrForeign is returned when a device with our name is not ours; it is
	// left alone.
	ErrForeign = errors.New("device is not onlink's")
	// ErrConflict is returned when another device already receives the packets
	// of ours: the kernel allows one tunnel without remote for each local address.
	ErrConflict = errors.New("another tunnel has the same local address")
	// ErrInvalid is returned for a Desired that describes no device.
	ErrInvalid = errors.New("invalid tunnel")
)
