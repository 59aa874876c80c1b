package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"onlink/ipam"
)

// Config selects the cluster.
type Config struct {
	Endpoints      []string    // host:port
	Prefix         string      // of all keys; ends with "/"
	TLS            *tls.Config // nil: plain text
	User, Password string      // empty: none
}

// Registry is an [ipam.Registry] in etcd. It is safe for concurrent use.
type Registry struct {
	client *clientv3.Client
	keys   keys

	mu      sync.Mutex
	base    uint64 // guarded by mu
	baseRev int64  // revision of the base's key; 0: not read; guarded by mu
}

var (
	_ ipam.Registry       = (*Registry)(nil)
	_ ipam.ForceReleaser  = (*Registry)(nil)
	_ ipam.ReleaseWatcher = (*Registry)(nil)
)

// Open returns the registry. It does not wait for the cluster: calls fail
// until that answers.
func Open(c Config) (*Registry, error) {
	scheme := "http://"
	if c.TLS != nil {
		scheme = "https://"
	}
	endpoints := make([]string, len(c.Endpoints))
	for i, e := range c.Endpoints {
		endpoints[i] = scheme + e
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: c.TLS, Username: c.User, Password: c.Password, Logger: zap.NewNop(),
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, RejectOldCluster: false,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: 2 * time.Second,
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("open etcd client: %w", err)
	}
	return &Registry{client: client, keys: keys{c.Prefix}}, nil
}

// Close ends the connections.
func (r *Registry) Close() error { return r.client.Close() }

// epochBase returns the floor of all epochs and the revision of its key, which
// every claim compares.
func (r *Registry) epochBase(ctx context.Context) (uint64, int64, error) {
	r.mu.Lock()
	base, rev := r.base, r.baseRev
	r.mu.Unlock()
	if rev != 0 {
		return base, rev, nil
	}
	key := r.keys.base()
	mine := strconv.FormatInt(time.Now().UnixMicro(), 10)
	res, err := r.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, mine), clientv3.OpGet(key)).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return 0, 0, fmt.Errorf("read epoch base: %w", err)
	}
	kvs := res.Responses[len(res.Responses)-1].GetResponseRange().GetKvs()
	if len(kvs) != 1 {
		return 0, 0, fmt.Errorf("read epoch base: %w: key %q", errRecord, key)
	}
	if base, err = strconv.ParseUint(string(kvs[0].Value), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("read epoch base: %w: value of key %q", errRecord, key)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.base, r.baseRev = base, kvs[0].ModRevision
	return r.base, r.baseRev, nil
}

// forgetBase makes the next call read the base again.
func (r *Registry) forgetBase() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.baseRev = 0
}

// List implements [ipam.Registry].
func (r *Registry) List(ctx context.Context, node string) ([]ipam.Block, error) {
	folder := r.keys.prefix + "blocks/"
	if node != "" {
		folder = r.keys.node(node)
	}
	out, err := r.list(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("list blocks of node %q: %w", node, err)
	}
	return out, nil
}

// listPage bounds one answer.
const listPage = 1000

// list reads a folder of records, page by page, as of one revision.
func (r *Registry) list(ctx context.Context, folder string) ([]ipam.Block, error) {
	var out []ipam.Block
	end := clientv3.GetPrefixRangeEnd(folder)
	for from, rev := folder, int64(0); ; {
		res, err := r.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(listPage), clientv3.WithRev(rev))
		if err != nil {
			return nil, err
		}
		page, err := parseAll(res.Kvs)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if !res.More {
			return out, nil
		}
		from, rev = string(res.Kvs[len(res.Kvs)-1].Key)+"\x00", res.Header.Revision
	}
}

// WatchReleases implements [ipam.ReleaseWatcher].
func (r *Registry) WatchReleases(ctx context.Context, released func()) {
	for ctx.Err() == nil {
		events := r.client.Watch(clientv3.WithRequireLeader(ctx), r.keys.prefix+"blocks/", clientv3.WithPrefix(), clientv3.WithFilterPut())
		for e := range events {
			if len(e.Events) > 0 {
				released()
			}
		}
		// The watch broke, as when its revision was compacted or there is no
		// leader: watch again, and as a release may have been missed, claim.
		again := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-again.C:
			released()
		}
		again.Stop()
	}
}

// validNode checks a node's name.
func validNode(node string) error {
	if node == "" || len(node) > 1024 || strings.ContainsRune(node, 0) {
		return fmt.Errorf("%w: node name is empty, too long or has a NUL", ipam.ErrInvalidRequest)
	}
	return nil
}
