package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"onlink/ipam"
)

// TakeOver implements [ipam.Registry].
func (r *Registry) TakeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	out, err := r.takeOver(ctx, by, from, force)
	if err != nil {
		return nil, fmt.Errorf("take over from node %q: %w", from, err)
	}
	return out, nil
}

func (r *Registry) takeOver(ctx context.Context, by ipam.Caller, from string, force bool) ([]ipam.Block, error) {
	if err := errors.Join(validNode(by.Node), validNode(from)); err != nil {
		return nil, err
	}
	names := []string{by.Node}
	if from != by.Node {
		names = append(names, from)
	}
	var cmps []clientv3.Cmp
	for _, name := range names {
		h, err := r.held(ctx, name)
		if err == nil {
			err = r.measure(ctx, h)
		}
		if err != nil {
			return nil, err
		}
		if err := ipam.AdmitTakeOver(name, h.holder, by, h.age, force); err != nil {
			return nil, err
		}
		cmps = append(cmps, h.unchanged(r.keys))
	}
	ops, err := r.recordHolder(ctx, by.Node, ipam.Holder{Caller: by, Since: time.Now()})
	if err != nil {
		return nil, err
	}
	if from != by.Node {
		ops = append(ops, clientv3.OpDelete(r.keys.holder(from)), clientv3.OpDelete(r.keys.alive(from)))
	}
	res, err := r.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return nil, err
	}
	if !res.Succeeded {
		return nil, errBusy
	}
	blocks, err := r.list(ctx, r.keys.node(from))
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		if err := r.move(ctx, b, by.Node); err != nil {
			return nil, fmt.Errorf("block %v: %w", b.CIDR, err)
		}
	}
	return r.list(ctx, r.keys.node(by.Node))
}

// move gives a block to a node with a new epoch, unless another change came first.
func (r *Registry) move(ctx context.Context, b ipam.Block, to string) error {
	for range maxRetries {
		got, err := r.client.Get(ctx, r.keys.block(b.CIDR))
		if err != nil || len(got.Kvs) == 0 {
			return err
		}
		have, err := parse(got.Kvs[0])
		if err != nil || have.Node != b.Node {
			return err
		}
		base, baseRev, err := r.epochBase(ctx)
		if err != nil {
			return err
		}
		// The epoch is base and revision; of a block that was asserted it may
		// have been above that.
		if now := base + uint64(max(got.Header.Revision, 0)); have.Epoch >= now { //nolint:gosec // a revision
			if err := r.liftBase(ctx, have.Epoch, baseRev); err != nil {
				return err
			}
			continue
		}
		value := record{Pool: have.Pool, Node: to, Base: base}.encode()
		ops := []clientv3.Op{clientv3.OpPut(r.keys.block(b.CIDR), value), clientv3.OpPut(r.keys.node(to)+blockPart(b.CIDR), value)}
		ops = append(ops, r.moved(have, ipam.Block{CIDR: b.CIDR, Node: to})...)
		res, err := r.client.Txn(ctx).If(
			clientv3.Compare(clientv3.ModRevision(r.keys.block(b.CIDR)), "=", got.Kvs[0].ModRevision),
			clientv3.Compare(clientv3.ModRevision(r.keys.base()), "=", baseRev),
		).Then(ops...).Commit()
		if err != nil || res.Succeeded {
			return err
		}
		r.forgetBase()
	}
	return errBusy
}

// liftBase makes all later epochs larger than epoch.
func (r *Registry) liftBase(ctx context.Context, epoch uint64, baseRev int64) error {
	key := r.keys.base()
	_, err := r.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", baseRev)).
		Then(clientv3.OpPut(key, strconv.FormatUint(epoch, 10))).Commit()
	r.forgetBase()
	return err
}
