package etcd

import "errors"

var (
	// errRecord is a key or value that onlink did not write.
	errRecord = errors.New("not a record of onlink")
	// errBusy is returned when other nodes were faster again and again.
	errBusy = errors.New("too many nodes change the same blocks at once")
)

// maxRetries bounds the transactions of one call that others overtake, before
// it fails with errBusy.
const maxRetries = 32
