package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"onlink/cni/pod"
)

// del serves DEL. Of the call it needs container ID and interface name only:
// the host end's name says what to remove, IPAM what to release. When it is answered the pod is cut off; its
// veth and addresses are freed a moment later, see [pod.Reaper].
func (s *Server) del(ctx context.Context, r *request) ([]byte, error) {
	unlock, err := s.locks.lock(ctx, r.Key())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if s.reaper.Has(r.Key()) {
		return nil, nil
	}
	lease, held := s.cfg.IPAM.Lookup(r.Attachment)
	if err := s.retire(ctx, r.Attachment, lease); err != nil {
		return nil, err
	}
	if held {
		s.cfg.Log.Info("pod disconnected", "namespace", r.Namespace, "pod", r.Pod, "addresses", lease.Addresses)
	}
	return nil, nil
}

// check serves CHECK: it compares the kernel with what ADD made and names
// every difference.
func (s *Server) check(ctx context.Context, r *request) ([]byte, error) {
	unlock, err := s.locks.lock(ctx, r.Key())
	if err != nil {
		return nil, err
	}
	defer unlock()
	lease, held := s.cfg.IPAM.Lookup(r.Attachment)
	if !held || s.reaper.Has(r.Key()) {
		return nil, fmt.Errorf("%w: no address is assigned to it", ErrMismatch)
	}
	missing, err := r.missingFromPrevious(lease.Addresses)
	if err != nil {
		return nil, err
	}
	netns, err := s.openNetns(r.Netns)
	if err != nil {
		return nil, err
	}
	defer func() { _ = netns.Close() }()
	w := s.wiring(r, lease, netns)
	if r.conf.MTU == 0 {
		w.MTU = 0 // the agent's choice may have changed since ADD
	}
	found, err := s.host.Check(ctx, w)
	if err != nil {
		return nil, err
	}
	for _, a := range missing {
		found = append(found, "prevResult: assigned address "+a.String()+" missing")
	}
	if len(found) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrMismatch, strings.Join(found, "; "))
	}
	return nil, nil
}

// gc serves GC: it frees what the runtime does not list. An attachment whose
// network namespace still exists is kept even then, because the list may be
// another network's.
func (s *Server) gc(ctx context.Context, r *request) ([]byte, error) {
	if len(r.conf.ValidAttachments) == 0 {
		return nil, fmt.Errorf("%w: cni.dev/valid-attachments is missing", ErrConfig)
	}
	var list []types.GCAttachment
	if err := json.Unmarshal(r.conf.ValidAttachments, &list); err != nil {
		return nil, fmt.Errorf("%w: cni.dev/valid-attachments: %w", ErrConfig, err)
	}
	valid := make(map[string]bool, len(list))
	for _, a := range list {
		valid[Attachment{ContainerID: a.ContainerID, IfName: a.IfName}.Key()] = true
	}
	candidates, err := s.garbage(ctx, valid)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range candidates {
		if err := s.collect(ctx, a); err != nil { // no reason to keep the others
			errs = append(errs, fmt.Errorf("collect %s: %w", a.Key(), err))
		}
	}
	return nil, errors.Join(append(errs, s.reaper.Flush(ctx))...)
}

// garbage returns the attachments that are not valid: those with addresses but
// without a namespace, and veths that no lease explains.
func (s *Server) garbage(ctx context.Context, valid map[string]bool) ([]Attachment, error) {
	var out []Attachment
	leased := map[string]bool{}
	for _, a := range s.cfg.IPAM.Attachments() {
		leased[a.Key()] = true
		if !valid[a.Key()] && pod.NetnsGone(a.Netns) {
			out = append(out, a)
		}
	}
	wired, err := s.host.Attachments(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range wired {
		if !leased[a.Key()] && !valid[a.Key()] {
			out = append(out, a)
		}
	}
	return out, nil
}

// collect frees one attachment unless an ADD has taken it up meanwhile.
func (s *Server) collect(ctx context.Context, a Attachment) error {
	unlock, err := s.locks.lock(ctx, a.Key())
	if err != nil {
		return err
	}
	defer unlock()
	lease, held := s.cfg.IPAM.Lookup(a)
	if held && !pod.NetnsGone(a.Netns) || s.reaper.Has(a.Key()) {
		return nil
	}
	s.cfg.Log.Info("garbage collected", "namespace", a.Namespace, "pod", a.Pod, "container", a.ContainerID, "addresses", lease.Addresses)
	return s.retire(ctx, a, lease)
}
