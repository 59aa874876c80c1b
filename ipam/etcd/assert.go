package etcd

import (
	"context"
	"fmt"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"onlink/ipam"
)

// Assert implements [ipam.Registry]. When the registry has all of the blocks,
// which is the usual case, it is one read of the node's own folder.
func (r *Registry) Assert(ctx context.Context, by ipam.Caller, held []ipam.Block) (lost []ipam.Block, err error) {
	node := by.Node
	if err := validNode(node); err != nil {
		return nil, err
	}
	for _, b := range held {
		if b.Node != node || !b.CIDR.IsValid() || b.CIDR.Masked() != b.CIDR || b.CIDR.Bits() < ipam.Largest(b.CIDR.Addr()) {
			return nil, fmt.Errorf("assert block %v for node %q: %w: it names node %q or is malformed", b.CIDR, node, ipam.ErrInvalidRequest, b.Node)
		}
	}
	mayHold, err := r.hold(ctx, by)
	if err != nil {
		return nil, fmt.Errorf("assert blocks of node %q: %w", node, err)
	}
	known, err := r.list(ctx, r.keys.node(node))
	if err != nil {
		return nil, fmt.Errorf("assert blocks of node %q: %w", node, err)
	}
	mine := make(map[ipam.Block]bool, len(known))
	for _, b := range known {
		mine[b] = true
	}
	for _, b := range held {
		if mine[b] {
			continue
		}
		ok, err := r.assertOne(ctx, b, mayHold)
		if err != nil {
			return nil, fmt.Errorf("assert block %v of node %q: %w", b.CIDR, node, err)
		}
		if !ok {
			lost = append(lost, b)
		}
	}
	return lost, nil
}

// assertOne records b unless another node has a better right to it, and reports
// whether it is b.Node's.
func (r *Registry) assertOne(ctx context.Context, b ipam.Block, mayHold clientv3.Cmp) (bool, error) {
	o := r.overlapping(b.CIDR)
	for range maxRetries {
		base, baseRev, err := r.epochBase(ctx)
		if err != nil {
			return false, err
		}
		res, err := r.client.Txn(ctx).Then(append([]clientv3.Op{clientv3.OpGet(r.keys.fence(b.CIDR))}, o.gets...)...).Commit()
		if err != nil {
			return false, err
		}
		fenced, fenceRev, err := fence(res)
		if err != nil || fenced >= b.Epoch {
			return false, err
		}
		res.Responses = res.Responses[1:]
		taken, err := owners(res)
		if err != nil {
			return false, err
		}
		cmps := append([]clientv3.Cmp{
			mayHold,
			clientv3.Compare(clientv3.ModRevision(r.keys.base()), "=", baseRev),
			clientv3.Compare(clientv3.ModRevision(r.keys.fence(b.CIDR)), "=", fenceRev),
		}, o.cmps...)
		var also []clientv3.Op
		if len(taken) > 0 {
			old := res.Responses[0].GetResponseRange().GetKvs()
			if better, err := outranks(old, taken, b); err != nil || better {
				return false, err
			}
			// As long as it stays so, no other node's block can overlap it.
			cmps = append(cmps[:3], clientv3.Compare(clientv3.ModRevision(r.keys.block(b.CIDR)), "=", old[0].ModRevision))
			also = r.moved(taken[0], b)
		}
		ok, err := r.record(ctx, b, base, cmps, also)
		if err != nil || ok {
			return ok, err
		}
	}
	return false, errBusy
}

// outranks reports whether one of the owners of overlapping blocks has a better
// right to a block than b.Node; kvs are the records of those inside it. A claim
// that this registry gave is certain. Of two nodes that both assert a block the
// later claim counts: the other one did not call while it lost the block, and the
// registry that took it was lost since.
func outranks(kvs []*mvccpb.KeyValue, taken []ipam.Block, b ipam.Block) (bool, error) {
	owner := taken[0]
	switch {
	case len(taken) > 1 || owner.CIDR != b.CIDR:
		return true, nil
	case owner.Node == b.Node:
		return owner.Epoch > b.Epoch, nil
	case owner.Epoch >= b.Epoch:
		return true, nil
	}
	rec, err := parseRecord(kvs[0])
	return rec.Epoch == 0, err
}

// moved returns the other writes for a block that changes its owner.
func (r *Registry) moved(from, to ipam.Block) []clientv3.Op {
	if from.Node == to.Node {
		return nil // its record is written anew
	}
	return []clientv3.Op{clientv3.OpDelete(r.keys.node(from.Node) + blockPart(from.CIDR))}
}

// record writes an asserted block and its other writes, if cmps hold. Claims after
// it get larger epochs: the base is lifted where revisions alone would not reach
// them.
func (r *Registry) record(ctx context.Context, b ipam.Block, base uint64, cmps []clientv3.Cmp, also []clientv3.Op) (bool, error) {
	value := record{Pool: b.Pool, Node: b.Node, Epoch: b.Epoch}.encode()
	ops := []clientv3.Op{
		clientv3.OpPut(r.keys.block(b.CIDR), value), clientv3.OpPut(r.keys.node(b.Node)+blockPart(b.CIDR), value), clientv3.OpDelete(r.keys.fence(b.CIDR)),
	}
	ops = append(ops, also...)
	if b.Epoch >= base {
		ops = append(ops, clientv3.OpPut(r.keys.base(), strconv.FormatUint(b.Epoch, 10)))
	}
	res, err := r.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return false, err
	}
	if !res.Succeeded || b.Epoch >= base {
		r.forgetBase()
	}
	return res.Succeeded, nil
}

// fence reads the first answer of a transaction: up to which epoch a block was
// released by force, 0 when it was not, and the revision of that.
func fence(res *clientv3.TxnResponse) (epoch uint64, rev int64, err error) {
	kvs := res.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return 0, 0, nil
	}
	epoch, err = strconv.ParseUint(string(kvs[0].Value), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: value of key %q", errRecord, kvs[0].Key)
	}
	return epoch, kvs[0].ModRevision, nil
}

// Release implements [ipam.Registry].
func (r *Registry) Release(ctx context.Context, by ipam.Caller, b ipam.Block) error {
	if by.Node != b.Node {
		return fmt.Errorf("release block %v of node %q: %w: the block names node %q", b.CIDR, by.Node, ipam.ErrInvalidRequest, b.Node)
	}
	if _, err := r.hold(ctx, by); err != nil {
		return fmt.Errorf("release block %v of node %q: %w", b.CIDR, b.Node, err)
	}
	if _, err := r.remove(ctx, b, false); err != nil {
		return fmt.Errorf("release block %v of node %q epoch %d: %w", b.CIDR, b.Node, b.Epoch, err)
	}
	return nil
}

// remove takes a block out of the registry, with a fence against its asserts
// when that is by force. It reports whether the block was there.
func (r *Registry) remove(ctx context.Context, b ipam.Block, force bool) (bool, error) {
	key := r.keys.block(b.CIDR)
	for range maxRetries {
		got, err := r.client.Get(ctx, key)
		if err != nil || len(got.Kvs) == 0 {
			return false, err
		}
		have, err := parse(got.Kvs[0])
		if err != nil {
			return false, err
		}
		if have.Node != b.Node || have.Epoch > b.Epoch && !force {
			return false, fmt.Errorf("%w: node %q owns it with epoch %d", ipam.ErrNotOwner, have.Node, have.Epoch)
		}
		ops := []clientv3.Op{clientv3.OpDelete(key), clientv3.OpDelete(r.keys.node(have.Node) + blockPart(b.CIDR))}
		if force {
			ops = append(ops, clientv3.OpPut(r.keys.fence(b.CIDR), strconv.FormatUint(have.Epoch, 10)))
		}
		res, err := r.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", got.Kvs[0].ModRevision)).Then(ops...).Commit()
		if err != nil || res.Succeeded {
			return err == nil, err
		}
	}
	return false, errBusy
}

// ForceRelease implements [ipam.ForceReleaser].
func (r *Registry) ForceRelease(ctx context.Context, node string, force bool) ([]ipam.Block, error) {
	if err := validNode(node); err != nil {
		return nil, err
	}
	h, err := r.held(ctx, node)
	if err == nil {
		err = r.measure(ctx, h)
	}
	if err == nil {
		err = ipam.AdmitRelease(node, h.holder, h.age, force)
	}
	if err != nil {
		return nil, fmt.Errorf("release all blocks of node %q: %w", node, err)
	}
	blocks, err := r.list(ctx, r.keys.node(node))
	if err != nil {
		return nil, fmt.Errorf("release all blocks of node %q: %w", node, err)
	}
	var out []ipam.Block
	for _, b := range blocks {
		gone, err := r.remove(ctx, b, true)
		if err != nil {
			return out, fmt.Errorf("release all blocks of node %q: %w", node, err)
		}
		if gone {
			out = append(out, b)
		}
	}
	// The name is free now: the next caller holds it.
	if _, err := r.client.Txn(ctx).Then(clientv3.OpDelete(r.keys.holder(node)), clientv3.OpDelete(r.keys.alive(node))).Commit(); err != nil {
		return out, fmt.Errorf("release name of node %q: %w", node, err)
	}
	return out, nil
}
