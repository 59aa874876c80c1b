package etcd

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"onlink/ipam"
)

// Nodes implements [ipam.NodeLister].
func (r *Registry) Nodes(ctx context.Context) ([]ipam.Node, error) {
	folder := r.keys.holder("")
	end := clientv3.GetPrefixRangeEnd(folder)
	var all []ipam.Holder
	for from, rev := folder, int64(0); ; {
		res, err := r.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(listPage), clientv3.WithRev(rev))
		if err != nil {
			return nil, fmt.Errorf("list nodes: %w", err)
		}
		for _, kv := range res.Kvs {
			name, err := url.PathUnescape(strings.TrimPrefix(string(kv.Key), folder))
			if err != nil {
				return nil, fmt.Errorf("list nodes: %w: key %q", errRecord, kv.Key)
			}
			h, err := parseHolder(name, kv)
			if err != nil {
				return nil, fmt.Errorf("list nodes: %w", err)
			}
			all = append(all, h)
		}
		if !res.More {
			return ipam.NodesOf(all), nil
		}
		from, rev = string(res.Kvs[len(res.Kvs)-1].Key)+"\x00", res.Header.Revision
	}
}
