package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"onlink/ipam"
)

// holderRecord is the value of a holder's key.
type holderRecord struct {
	Instance string        `json:"instance"`
	Before   string        `json:"before,omitempty"`
	Address  netip.Addr    `json:"address,omitzero"`
	Address6 netip.Addr    `json:"address6,omitzero"`
	Period   time.Duration `json:"period"` // nanoseconds
	Since    time.Time     `json:"since"`
}

// holding is etcd's state of the machine that holds a name.
type holding struct {
	name   string
	holder ipam.Holder
	rev    int64 // of the holder's key; 0: there is none
	// alive is the lease of the other key, which ends when the machine did not
	// assert for two of its periods; 0: it has ended.
	alive clientv3.LeaseID
	age   time.Duration // since the machine's last call; see measure
}

// unchanged holds as long as no other machine took the name.
func (h *holding) unchanged(k keys) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(k.holder(h.name)), "=", h.rev)
}

// held reads the holder of a name.
func (r *Registry) held(ctx context.Context, name string) (*holding, error) {
	res, err := r.client.Txn(ctx).Then(clientv3.OpGet(r.keys.holder(name)), clientv3.OpGet(r.keys.alive(name))).Commit()
	if err != nil {
		return nil, fmt.Errorf("read holder of node %q: %w", name, err)
	}
	h := &holding{name: name}
	if kvs := res.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		h.rev = kvs[0].ModRevision
		if h.holder, err = parseHolder(name, kvs[0]); err != nil {
			return nil, err
		}
	}
	h.age = h.holder.Patience() + time.Second
	kvs := res.Responses[1].GetResponseRange().GetKvs()
	if len(kvs) > 0 && string(kvs[0].Value) == h.holder.Instance && kvs[0].Lease != 0 {
		h.alive, h.age = clientv3.LeaseID(kvs[0].Lease), 0
	}
	return h, nil
}

// measure computes the time since the holder's last call.
func (r *Registry) measure(ctx context.Context, h *holding) error {
	if h.alive == 0 {
		return nil
	}
	ttl, err := r.client.TimeToLive(ctx, h.alive)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil && ttl.TTL < 0:
		h.alive, h.age = 0, h.holder.Patience()+time.Second
	case err != nil:
		return fmt.Errorf("read lease of node %q: %w", h.name, err)
	default:
		h.age = max(time.Duration(ttl.GrantedTTL-ttl.TTL)*time.Second, 0)
	}
	return nil
}

// parseHolder reads the value of a holder's key.
func parseHolder(name string, kv *mvccpb.KeyValue) (ipam.Holder, error) {
	var r holderRecord
	if err := json.Unmarshal(kv.Value, &r); err != nil || r.Instance == "" {
		return ipam.Holder{}, fmt.Errorf("%w: value of key %q", errRecord, kv.Key)
	}
	return ipam.Holder{
		Caller: ipam.Caller{Node: name, Instance: r.Instance, Address: r.Address, Address6: r.Address6, Period: r.Period},
		Since:  r.Since, Before: r.Before,
	}, nil
}

// hold is the rule of [ipam.Admit]: it returns, when the caller holds its name
// and the registry has recorded the call, the comparison that holds as long as
// that stays so.
func (r *Registry) hold(ctx context.Context, by ipam.Caller) (clientv3.Cmp, error) {
	for range maxRetries {
		h, err := r.held(ctx, by.Node)
		if err != nil {
			return clientv3.Cmp{}, err
		}
		next, changed, err := r.admit(ctx, h, by)
		if err != nil {
			return clientv3.Cmp{}, err
		}
		if !changed {
			if next.Instance != "" {
				err = r.hear(ctx, h)
			}
			return h.unchanged(r.keys), err
		}
		ops, err := r.recordHolder(ctx, by.Node, next)
		if err != nil {
			return clientv3.Cmp{}, err
		}
		res, err := r.client.Txn(ctx).If(h.unchanged(r.keys)).Then(ops...).Commit()
		if err != nil {
			return clientv3.Cmp{}, fmt.Errorf("record holder of node %q: %w", by.Node, err)
		}
		if res.Succeeded {
			h.rev = res.Header.Revision
			if next.Instance == "" {
				h.rev = 0
			}
			return h.unchanged(r.keys), nil
		}
	}
	return clientv3.Cmp{}, errBusy
}

// admit is [ipam.Admit]; the age costs a call, and only a refusal needs it.
func (r *Registry) admit(ctx context.Context, h *holding, by ipam.Caller) (next ipam.Holder, changed bool, err error) {
	if next, changed, err = ipam.Admit(h.holder, by, h.age); err == nil {
		return next, changed, nil
	}
	if err := r.measure(ctx, h); err != nil {
		return ipam.Holder{}, false, err
	}
	return ipam.Admit(h.holder, by, h.age)
}

// hear records a call of the holder.
func (r *Registry) hear(ctx context.Context, h *holding) error {
	if h.alive != 0 {
		_, err := r.client.KeepAliveOnce(ctx, h.alive)
		if err == nil || !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
	}
	ops, err := r.recordHolder(ctx, h.name, h.holder)
	if err != nil {
		return err
	}
	// Only the second: the holder's own key stays, and with it its revision.
	_, err = r.client.Txn(ctx).If(h.unchanged(r.keys)).Then(ops[1]).Commit()
	return err
}

// recordHolder returns the writes that record a holder and its call: both keys.
func (r *Registry) recordHolder(ctx context.Context, name string, h ipam.Holder) ([]clientv3.Op, error) {
	if h.Instance == "" {
		return []clientv3.Op{clientv3.OpDelete(r.keys.holder(name)), clientv3.OpDelete(r.keys.alive(name))}, nil
	}
	lease, err := r.client.Grant(ctx, int64(h.Patience()/time.Second))
	if err != nil {
		return nil, fmt.Errorf("grant lease of node %q: %w", name, err)
	}
	value, err := json.Marshal(holderRecord{
		Instance: h.Instance, Before: h.Before, Address: h.Address, Address6: h.Address6, Period: h.Period, Since: h.Since.UTC(),
	})
	if err != nil {
		return nil, err
	}
	return []clientv3.Op{
		clientv3.OpPut(r.keys.holder(name), string(value)),
		clientv3.OpPut(r.keys.alive(name), h.Instance, clientv3.WithLease(lease.ID)),
	}, nil
}
