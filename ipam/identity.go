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

// settleIdentity makes or checks the identity in the file: whether this is the
// database of the node and machine that runs. It returns what the machine may
// do with it at first.
func (a *Allocator) settleIdentity(c *contents) error {
	id := c.identity
	if id.Instance == "" { // a new file, or one of the version before
		id = identity{Instance: newInstance(), Node: a.cfg.Node, Address: a.cfg.Address, Address6: a.cfg.Address6}
		for _, h := range c.order {
			if h.Node != a.cfg.Node {
				id.Node, id.Address, id.Address6 = h.Node, netip.Addr{}, netip.Addr{}
				break
			}
		}
	}
	was := Caller{Instance: id.Instance, Address: id.Address, Address6: id.Address6}
	now := Caller{Instance: id.Instance, Address: a.cfg.Address, Address6: a.cfg.Address6}
	switch {
	case id.Node != a.cfg.Node:
		a.stand = footing{standing: foreign, why: foreignError(id.Node, a.cfg.Node)}
	case id.Refused != "":
		a.stand = footing{standing: unproven, why: unprovenError("the registry refused it before: " + id.Refused)}
	case !was.same(now):
		a.stand = footing{standing: unproven, moving: true, why: unprovenError("the database is that of a machine at " + was.Where() +
			" and this one is at " + now.Where() + ": it may be a copy (blocks with pods that run here are announced)")}
	}
	if id != c.identity {
		if err := a.cfg.Store.commit([]change{saveIdentity(id)}); err != nil {
			return err
		}
	}
	a.identity = id
	return nil
}

// caller is how this machine calls itself to the registry.
func (a *Allocator) caller() Caller {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Caller{
		Node: a.cfg.Node, Instance: a.identity.Instance, Address: a.cfg.Address, Address6: a.cfg.Address6, Period: a.cfg.AssertInterval,
	}
}

// keepIdentity stores that the registry knows this machine, or why it does not,
// when that is news.
func (a *Allocator) keepIdentity(refused string) error {
	a.mu.Lock()
	id := a.identity
	id.Refused = refused
	if refused == "" {
		id.Address, id.Address6 = a.cfg.Address, a.cfg.Address6
	}
	same := id == a.identity || refused != "" && a.identity.Refused != "" // its age alone is no news
	a.mu.Unlock()
	if same {
		return nil
	}
	if err := a.submit(saveIdentity(id)); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identity = id
	return nil
}
