package ipam

import (
	"net/netip"

	bolt "go.etcd.io/bbolt"
)

// identity is the owner of a database. The zero value is that of a new file, and
// of one that a former version wrote.
type identity struct {
	Instance          string     // made at the first start, see [Caller]
	Node              string     // the name the machine had
	Address, Address6 netip.Addr // of the machine at the registry's last confirmation
	Refused           string     // the registry's rejection of this machine; empty: none
}

// readIdentity reads the owner of the file.
func readIdentity(tx *bolt.Tx) (identity, error) {
	v, err := getMeta(tx, metaIdentity)
	if err != nil || v == nil {
		return identity{}, err
	}
	r := reader{b: v}
	id := identity{Instance: r.string(), Node: r.string(), Address: r.optional(), Address6: r.optional(), Refused: r.string()}
	return id, r.done("identity", []byte(metaIdentity))
}

// saveIdentity stores the owner of the file.
func saveIdentity(id identity) change {
	return func(tx *bolt.Tx) error {
		v := appendString(appendString(nil, id.Instance), id.Node)
		v = appendOptional(appendOptional(v, id.Address), id.Address6)
		return putMeta(tx, metaIdentity, appendString(v, id.Refused))
	}
}
