package ipam

import (
	"net/netip"

	bolt "go.etcd.io/bbolt"
)

// identity says whose database a file is. The zero value is that of a new file,
// and of one that a version before wrote.
type identity struct {
	Instance          string     // made at the first start, see [Caller]
	Node              string     // the name the machine had
	Address, Address6 netip.Addr // of the machine when its registry last knew it
	Refused           string     // what the registry said when it refused this machine; empty: it did not
}

// readIdentity reads whose file it is.
func readIdentity(tx *bolt.Tx) (identity, error) {
	v, err := getMeta(tx, metaIdentity)
	if err != nil || v == nil {
		return identity{}, err
	}
	r := reader{b: v}
	id := identity{Instance: r.string(), Node: r.string(), Address: r.optional(), Address6: r.optional(), Refused: r.string()}
	return id, r.done("identity", []byte(metaIdentity))
}

// saveIdentity stores whose file it is.
func saveIdentity(id identity) change {
	return func(tx *bolt.Tx) error {
		v := appendString(appendString(nil, id.Instance), id.Node)
		v = appendOptional(appendOptional(v, id.Address), id.Address6)
		return putMeta(tx, metaIdentity, appendString(v, id.Refused))
	}
}
