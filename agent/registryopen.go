package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"onlink/agent/config"
	"onlink/agent/node"
	"onlink/ipam"
	"onlink/ipam/etcd"
)

// openRegistry is the block registry that the configuration asks for. close
// ends its connections.
func openRegistry(cfg config.Registry, store *ipam.Store, pools []ipam.Pool, id node.Identity) (reg ipam.Registry, closeIt func() error, err error) {
	if cfg.Kind == config.RegistryEtcd {
		return openEtcd(cfg)
	}
	if len(cfg.Addresses) == 0 {
		return store.BoltRegistry().WithSettle(cfg.Settle()).OwnNode(), func() error { return nil }, nil
	}
	creds := insecure.NewCredentials()
	if cfg.TLS.Enabled() {
		if creds, err = clientTLS(cfg.TLS); err != nil {
			return nil, nil, fmt.Errorf("ipam.registry.tls: %w", err)
		}
	}
	var parts []ipam.Registry
	var conns []*grpc.ClientConn
	closeIt = func() error {
		var errs []error
		for _, cc := range conns {
			errs = append(errs, cc.Close())
		}
		return errors.Join(errs...)
	}
	for _, addr := range cfg.Addresses {
		if cfg.Listen.IsValid() && addr == cfg.Listen.String() {
			parts = append(parts, store.BoltRegistry().WithSettle(cfg.Settle()).OwnNode())
			continue
		}
		cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds), grpc.WithContextDialer(dialFrom(id)))
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("ipam.registry.address: %w", err), closeIt())
		}
		conns = append(conns, cc)
		parts = append(parts, newRemoteRegistry(cc))
	}
	if len(parts) == 1 {
		return parts[0], closeIt, nil
	}
	return ipam.NewSplit(parts[0], parts[1], pools), closeIt, nil
}

func openEtcd(cfg config.Registry) (ipam.Registry, func() error, error) {
	c := etcd.Config{Endpoints: cfg.Addresses, Prefix: cfg.Prefix, User: cfg.User}
	var err error
	if cfg.TLS.Enabled() {
		if c.TLS, err = etcdTLS(cfg.TLS); err != nil {
			return nil, nil, fmt.Errorf("ipam.registry.tls: %w", err)
		}
	}
	if c.Password, err = password(cfg.PasswordFile); err != nil {
		return nil, nil, fmt.Errorf("ipam.registry.passwordFile: %w", err)
	}
	reg, err := etcd.Open(c)
	if err != nil {
		return nil, nil, fmt.Errorf("ipam.registry: %w", err)
	}
	return reg, reg.Close, nil
}

// etcdTLS is TLS with or without a certificate of our own: etcd may know its
// clients by password.
func etcdTLS(t config.TLS) (*tls.Config, error) {
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, err
	}
	out := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12} // etcd 3.4 of Debian has 1.2
	if !out.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in PEM form", t.CA)
	}
	if t.Cert == "" {
		return out, nil
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	out.Certificates = []tls.Certificate{cert}
	return out, nil
}
