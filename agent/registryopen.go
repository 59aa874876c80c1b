package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"onlink/agent/node"
	"onlink/agent/rooms"
	"onlink/ipam"
	"onlink/ipam/etcd"
	"onlink/ipam/remote"
)

// registryPatience is how long an operator's question waits for the registry.
const registryPatience = 700 * time.Millisecond

// listRegistry returns every node's blocks, or after [registryPatience] an
// error.
func (a *agent) listRegistry(ctx context.Context) ([]ipam.Block, error) {
	return ipam.ListWithin(ctx, a.registry, registryPatience)
}

// openRegistry opens the block registry of the configuration. closeIt ends its
// connections.
func openRegistry(cfg ipam.RegistrySettings, store *ipam.Store, pools []ipam.Pool, id node.Identity) (reg ipam.Registry, closeIt func() error, err error) {
	if cfg.Kind == ipam.RegistryEtcd {
		return openEtcd(cfg)
	}
	if len(cfg.Addresses) == 0 {
		return store.BoltRegistry().WithSettle(cfg.Settle()).OwnNode(), func() error { return nil }, nil
	}
	client := remote.ClientConfig{Dial: dialFrom(id)}
	if cfg.TLS.Enabled() {
		if client.TLS, err = cfg.TLS.Client(); err != nil {
			return nil, nil, fmt.Errorf("ipam.registry.tls: %w", err)
		}
	}
	var parts []ipam.Registry
	var remotes []*remote.Registry
	closeIt = func() error {
		var errs []error
		for _, r := range remotes {
			errs = append(errs, r.Close())
		}
		return errors.Join(errs...)
	}
	for _, addr := range cfg.Addresses {
		if cfg.Listen.IsValid() && addr == cfg.Listen.String() {
			parts = append(parts, store.BoltRegistry().WithSettle(cfg.Settle()).OwnNode())
			continue
		}
		client.Target = addr
		r, err := remote.Open(client)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("ipam.registry.address: %w", err), closeIt())
		}
		remotes = append(remotes, r)
		parts = append(parts, r)
	}
	if len(parts) == 1 {
		return parts[0], closeIt, nil
	}
	return ipam.NewSplit(parts[0], parts[1], pools), closeIt, nil
}

func openEtcd(cfg ipam.RegistrySettings) (ipam.Registry, func() error, error) {
	c := etcd.Config{Endpoints: cfg.Addresses, Prefix: cfg.Prefix, User: cfg.User}
	var err error
	if cfg.TLS.Enabled() {
		if c.TLS, err = cfg.TLS.Trust(); err != nil {
			return nil, nil, fmt.Errorf("ipam.registry.tls: %w", err)
		}
	}
	if c.Password, err = rooms.Password(cfg.PasswordFile); err != nil {
		return nil, nil, fmt.Errorf("ipam.registry.passwordFile: %w", err)
	}
	reg, err := etcd.Open(c)
	if err != nil {
		return nil, nil, fmt.Errorf("ipam.registry: %w", err)
	}
	return reg, reg.Close, nil
}
