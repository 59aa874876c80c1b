package nft

import "errors"

// ErrUnsupported is returned when the kernel cannot hold the table: nf_tables,
// its inet family or its nat chains are missing. Masquerading and the tunnel
// guard are not possible then; everything else of onlink is.
var ErrUnsupported = errors.New("kernel lacks nftables with nat in the inet family")
