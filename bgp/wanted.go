package bgp

import (
	"fmt"
	"maps"
	"net/netip"
)

// wanted are the desired sessions of a node, valid and with their defaults filled
// in.
type wanted struct {
	peers    map[netip.Addr]Peer
	dynamics map[string]Dynamic
}

// wantedOf returns the desired sessions of a node with configuration c, or an
// [ErrConfig].
func wantedOf(c *Config, peers []Peer, dynamics []Dynamic) (wanted, error) {
	names := map[string]bool{}
	claim := func(name string) error {
		if name == "" || names[name] {
			return fmt.Errorf("%w: Name %q is empty or used twice: give every peer its own", ErrConfig, name)
		}
		names[name] = true
		return nil
	}
	w := wanted{peers: make(map[netip.Addr]Peer, len(peers)), dynamics: make(map[string]Dynamic, len(dynamics))}
	for _, p := range peers {
		if err := claim(p.Name); err != nil {
			return wanted{}, err
		}
		if err := w.addPeer(c, p); err != nil {
			return wanted{}, err
		}
	}
	if _, err := zonesOf(w.peers); err != nil {
		return wanted{}, err
	}
	for _, d := range dynamics {
		if err := claim(d.Name); err != nil {
			return wanted{}, err
		}
		if err := w.addDynamic(c, d); err != nil {
			return wanted{}, err
		}
	}
	return w, nil
}

func (w *wanted) addPeer(c *Config, p Peer) error {
	p.Session = p.Session.withDefaults(c)
	if p.Port == 0 {
		p.Port = 179
	}
	if !p.Address.IsValid() || p.Address.IsUnspecified() || p.Address.Is4In6() {
		return fmt.Errorf("%w: peer %s: Address %q is not a peer's address", ErrConfig, p.Name, p.Address)
	}
	if old, twice := w.peers[p.Address]; twice {
		return fmt.Errorf("%w: peer %s: Address %s is already peer %s", ErrConfig, p.Name, p.Address, old.Name)
	}
	if err := p.validate(c, "peer "+p.Name); err != nil {
		return err
	}
	w.peers[p.Address] = p
	return nil
}

func (w *wanted) addDynamic(c *Config, d Dynamic) error {
	d.Session = d.Session.withDefaults(c)
	if err := validPrefix("dynamic peers "+d.Name+": Prefix", d.Prefix); err != nil {
		return err
	}
	if err := d.validate(c, "dynamic peers "+d.Name); err != nil {
		return err
	}
	if d.AllowOwnAS != 0 {
		return fmt.Errorf("%w: dynamic peers %s: AllowOwnAS is for configured peers only: leave it 0", ErrConfig, d.Name)
	}
	w.dynamics[d.Name] = d
	return nil
}

// clone returns a copy that does not change with w.
func (w *wanted) clone() *wanted {
	return &wanted{peers: maps.Clone(w.peers), dynamics: maps.Clone(w.dynamics)}
}

// reflects reports whether one of the sessions makes the node a reflector.
func (w *wanted) reflects() bool {
	for _, p := range w.peers {
		if p.Role == Client {
			return true
		}
	}
	for _, d := range w.dynamics {
		if d.Role == Client {
			return true
		}
	}
	return false
}

// dynamicOf returns the Dynamic that accepts a session from a: that with the
// longest prefix.
func (w *wanted) dynamicOf(a netip.Addr) (best Dynamic, ok bool) {
	for _, d := range w.dynamics {
		if d.Prefix.Contains(a) && (!ok || d.Prefix.Bits() > best.Prefix.Bits()) {
			best, ok = d, true
		}
	}
	return best, ok
}

// find returns the session of a configured peer by its name or address, or of a
// Dynamic by its name or an address that it accepts. It wraps [ErrUnknownPeer].
func (w *wanted) find(peer string) (Session, string, netip.Addr, error) {
	addr, notAddr := netip.ParseAddr(peer)
	for a, p := range w.peers {
		if p.Name == peer || notAddr == nil && a.WithZone("") == addr.WithZone("") {
			return p.Session, p.Name, a.WithZone(""), nil
		}
	}
	if d, ok := w.dynamics[peer]; ok {
		return d.Session, d.Name, d.Prefix.Addr(), nil
	}
	if notAddr == nil {
		if d, ok := w.dynamicOf(addr); ok {
			return d.Session, d.Name, addr, nil
		}
	}
	return Session{}, "", addr, fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
}
