// Package registry opens the block registry that the configuration names: the
// one in the node's own database, another agent's, two that split the pools, or
// etcd's. It serves none.
package registry

import (
	"errors"
	"fmt"
	"io"
	"net/netip"

	"onlink/agent/rooms"
	"onlink/internal/tlsfiles"
	"onlink/ipam"
	"onlink/ipam/etcd"
	"onlink/ipam/remote"
)

// Config is the input for opening a registry.
type Config struct {
	ipam.RegistrySettings

	Store *ipam.Store // the node's own database
	Pools []ipam.Pool // that two registries split
	// From and From6 are the node's addresses, by which another agent's registry
	// identifies it; the zero Addr: none.
	From, From6 netip.Addr
}

// Opened is an open registry.
type Opened struct {
	// Registry is the registry itself; its type has its other abilities
	// ([ipam.ForceReleaser] and so on).
	Registry ipam.Registry

	// Certificates holds the files of ipam.registry.tls; nil: there are none.
	Certificates *tlsfiles.Keeper

	conns []io.Closer // to other processes
}

// Open opens the registry. It waits for no other process: calls fail until that
// answers.
func Open(c Config) (*Opened, error) {
	out := &Opened{}
	if c.TLS.Enabled() {
		var err error
		if out.Certificates, err = c.TLS.Open(); err != nil {
			return nil, fmt.Errorf("ipam.registry.tls: %w", err)
		}
	}
	switch {
	case c.Kind == ipam.RegistryEtcd:
		return out, out.openEtcd(c)
	case len(c.Addresses) == 0:
		out.Registry = c.own()
		return out, nil
	}
	client := remote.ClientConfig{Dial: remote.DialFrom(c.From, c.From6)}
	if out.Certificates != nil {
		client.TLS = out.Certificates.Client
	}
	var parts []ipam.Registry
	for _, addr := range c.Addresses {
		if c.Listen.IsValid() && addr == c.Listen.String() {
			parts = append(parts, c.own())
			continue
		}
		client.Target = addr
		r, err := remote.Open(client)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("ipam.registry.address: %w", err), out.Close())
		}
		out.conns = append(out.conns, r)
		parts = append(parts, r)
	}
	if out.Registry = parts[0]; len(parts) > 1 {
		out.Registry = ipam.NewSplit(parts[0], parts[1], c.Pools)
	}
	return out, nil
}

// own is the registry in the node's own database.
func (c Config) own() ipam.Registry {
	return c.Store.BoltRegistry().WithSettle(c.Settle()).OwnNode()
}

func (o *Opened) openEtcd(c Config) error {
	conf := etcd.Config{Endpoints: c.Addresses, Prefix: c.Prefix, User: c.User}
	if o.Certificates != nil {
		conf.TLS = o.Certificates.Trust()
	}
	var err error
	if conf.Password, err = rooms.Password(c.PasswordFile); err != nil {
		return fmt.Errorf("ipam.registry.passwordFile: %w", err)
	}
	reg, err := etcd.Open(conf)
	if err != nil {
		return fmt.Errorf("ipam.registry: %w", err)
	}
	o.Registry, o.conns = reg, []io.Closer{reg}
	return nil
}

// SetPools replaces the pools that two registries split.
func (o *Opened) SetPools(pools []ipam.Pool) {
	if split, ok := o.Registry.(*ipam.Split); ok {
		split.SetPools(pools)
	}
}

// HalfFailed returns which of two registries did not answer its last call; nil:
// both did, or there are no two.
func (o *Opened) HalfFailed() error {
	if split, ok := o.Registry.(*ipam.Split); ok {
		return split.Problem()
	}
	return nil
}

// Close ends the connections.
func (o *Opened) Close() error {
	var errs []error
	for _, c := range o.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
