package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/client"
)

// LeaseName is the Lease of the replica that works. The Lease of a node's name begins
// with "onlink-": a Node of any name has another.
const LeaseName = "controller.onlink.io"

// lead is a replica's hold of the Lease, by the rules of client-go's leader election:
// a holder is dead when its Lease did not change for its whole length by this
// process's own clock. Client-go's own package links all kinds of Kubernetes.
type lead struct {
	log       *slog.Logger
	leases    *client.Resource[*coordinationv1.Lease, *coordinationv1.LeaseList]
	identity  string
	length    time.Duration
	seen      string    // version of the Lease
	seenSince time.Time // when it was read first
}

func newLead(opt Options) *lead {
	return &lead{log: opt.Log, leases: opt.Client.CoordinationV1().Leases(opt.Namespace), identity: opt.Identity, length: opt.LeaseDuration}
}

// retry is the pause between two looks at the Lease, or two renewals.
func (l *lead) retry() time.Duration { return l.length / 8 }

// deadline is how long a renewal may fail until the lead is given up, before
// another replica may take it.
func (l *lead) deadline() time.Duration { return l.length * 2 / 3 }

// acquire waits until this replica holds the Lease; false: ctx ended.
func (l *lead) acquire(ctx context.Context) bool {
	said := false
	for {
		held, err := l.try(ctx)
		if held {
			return true
		}
		if err != nil && ctx.Err() == nil && !said {
			l.log.Warn("failed to read or write the Lease, tries again", "lease", LeaseName, "err", err)
		}
		said = err != nil
		// Spread, or two replicas that wait would always write at once.
		if !wait(ctx, l.retry()+rand.N(l.retry())) { //nolint:gosec // it keeps no secret
			return false
		}
	}
}

// renew holds the Lease until ctx ends; an error means that it is lost.
func (l *lead) renew(ctx context.Context) error {
	for last := time.Now(); wait(ctx, l.retry()); {
		begun := time.Now()
		call, cancel := context.WithDeadline(ctx, last.Add(l.deadline()))
		held, err := l.try(call)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the process ends
		case held:
			last = begun
		case err == nil:
			return errors.New("lost the lead: another replica works")
		case time.Since(last) >= l.deadline()-l.retry():
			return fmt.Errorf("lost the lead: the Lease was not renewed for %s: %w", time.Since(last).Round(time.Second), err)
		default:
			l.log.Warn("failed to renew the Lease, tries again", "lease", LeaseName, "err", err)
		}
	}
	return nil
}

// try takes the Lease if it is free, or renews it. It reports whether this replica
// holds it now; false without an error: another does.
func (l *lead) try(ctx context.Context) (bool, error) {
	now := metav1.NowMicro()
	length := int32(max(l.length/time.Second, 1))
	old, err := l.leases.Get(ctx, LeaseName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = l.leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: LeaseName},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &l.identity, LeaseDurationSeconds: &length, AcquireTime: &now, RenewTime: &now},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return false, nil
		}
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	if old.ResourceVersion != l.seen {
		l.seen, l.seenSince = old.ResourceVersion, time.Now()
	}
	holder := ""
	if old.Spec.HolderIdentity != nil {
		holder = *old.Spec.HolderIdentity
	}
	if holder != "" && holder != l.identity && time.Since(l.seenSince) < l.length {
		return false, nil
	}
	next := old.DeepCopy()
	next.Spec.HolderIdentity, next.Spec.LeaseDurationSeconds, next.Spec.RenewTime = &l.identity, &length, &now
	if holder != l.identity {
		next.Spec.AcquireTime = &now
		transitions := int32(1)
		if old.Spec.LeaseTransitions != nil {
			transitions += *old.Spec.LeaseTransitions
		}
		next.Spec.LeaseTransitions = &transitions
	}
	next, err = l.leases.Update(ctx, next, metav1.UpdateOptions{})
	switch {
	case apierrors.IsConflict(err) && holder != l.identity:
		return false, nil // another was faster
	case err != nil:
		return false, err // of a conflict in a renewal, the next look says who holds it
	}
	l.seen, l.seenSince = next.ResourceVersion, time.Now()
	return true, nil
}

// release frees the Lease for another replica, which otherwise waits for its whole
// length.
func (l *lead) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.retry())
	defer cancel()
	held, err := l.leases.Get(ctx, LeaseName, metav1.GetOptions{})
	if err == nil && (held.Spec.HolderIdentity == nil || *held.Spec.HolderIdentity != l.identity) {
		return
	}
	if err == nil {
		held.Spec.HolderIdentity = nil
		_, err = l.leases.Update(ctx, held, metav1.UpdateOptions{})
	}
	if err != nil {
		l.log.Warn("failed to release the Lease, another replica waits for its end", "lease", LeaseName, "err", err)
	}
}
