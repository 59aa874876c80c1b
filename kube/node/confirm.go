package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
	onlinkv1 "onlink/proto/v1"
)

// heldChanges returns the changes that the agent holds.
func (d *desire) heldChanges() []*onlinkv1.HeldChange {
	s, _, _ := d.link.last()
	return s.GetHeld()
}

// confirmHeld confirms the held changes that an annotation names. An annotation is
// used once: the same change may be held again, and by then it is no desire. That of
// the OnlinkNode is removed after its use; that of the OnlinkConfig is everybody's, so
// that each node notes its use in its own OnlinkNode.
func (d *desire) confirmHeld(ctx context.Context) error {
	if _, ok := d.objects.own.get(d.objects.node); !ok {
		return nil // what this node has used is not known: its arrival is the next turn
	}
	own, shared, done := d.objects.confirmations()
	maps.DeleteFunc(d.used, func(digest string, _ bool) bool { return digest != own && digest != shared })
	pending := false
	for _, h := range d.heldChanges() {
		digest := h.GetDigest()
		byAll := digest == shared && (shared != done || d.notes.of(digest))
		if digest == "" || d.used[digest] || digest != own && !byAll {
			continue
		}
		noted, err := d.confirmNoted(ctx, h, digest == own)
		if err != nil {
			return err
		}
		pending = pending || !noted
	}
	if pending {
		return nil
	}
	var err error
	switch {
	case shared != "" && done != shared && d.used[shared]: // the OnlinkNode was deleted meanwhile
		_, err = d.note(ctx, shared)
	case done != "" && done != shared:
		_, err = d.note(ctx, "")
	}
	d.notes.made = "" // what it was made for is confirmed, or no longer held
	return err
}

// confirmNoted confirms a held change by an annotation, once its use is noted; that of
// the own OnlinkNode needs no note. It reports false while the note is on its way.
func (d *desire) confirmNoted(ctx context.Context, h *onlinkv1.HeldChange, own bool) (bool, error) {
	if !own {
		// Before: a process that ends in between uses it no second time.
		if noted, err := d.note(ctx, h.GetDigest()); !noted || err != nil {
			return false, err
		}
	}
	if err := d.confirm(ctx, h, "annotation "+v1alpha1.ConfirmAnnotation); err != nil {
		return false, err
	}
	d.used[h.GetDigest()] = true
	return true, nil
}

// notes are the writes of which confirmation of the OnlinkConfig this node has used.
type notes struct {
	made    string     // the digest that was written, and is not confirmed yet; "": none
	digest  string     // of the write that is on its way
	written chan error // of that one, with room for it; nil: none is
}

// of reports whether this process made the note of a digest that is not confirmed yet,
// or makes it now: by then the OnlinkNode may show it as used.
func (n *notes) of(digest string) bool {
	return n.made == digest || n.written != nil && n.digest == digest
}

// note writes that this node uses a confirmation of the OnlinkConfig; "": none that is
// there. It writes beside the loop, because a slow API server delays no announcement,
// and reports whether that has ended. Its end wakes the loop where that waits for it.
func (d *desire) note(ctx context.Context, digest string) (made bool, err error) {
	n := &d.notes
	if digest != "" && n.made == digest {
		return true, nil
	}
	if n.written != nil {
		select {
		case err := <-n.written:
			n.written = nil
			if n.digest == digest {
				if err == nil {
					n.made = digest
				}
				return err == nil, err
			}
		default:
			return false, nil
		}
	}
	written, waits := make(chan error, 1), digest != "" && !d.used[digest]
	n.digest, n.written = digest, written
	d.objects.running.Go(func() {
		err := d.objects.writeNote(ctx, digest)
		written <- err
		if waits || err != nil {
			d.input.ring()
		}
	})
	return false, nil
}

// writeNote annotates the OnlinkNode with the digest of a confirmation; "": removes the
// annotation.
func (o *objects) writeNote(ctx context.Context, digest string) error {
	var value *string
	if digest != "" {
		value = &digest
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.ConfirmedAnnotation: value}}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	_, err = o.client.Nodes.Patch(ctx, o.node, types.MergePatchType, text, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil // it comes with the next status, and the use is in memory
	}
	return wrap("annotate OnlinkNode with "+v1alpha1.ConfirmedAnnotation, err)
}

func (d *desire) confirm(ctx context.Context, h *onlinkv1.HeldChange, why string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := d.link.admin.Confirm(ctx, &onlinkv1.ConfirmRequest{Digest: h.GetDigest()})
	if status.Code(err) == codes.NotFound {
		return nil // another confirmed it
	}
	if err != nil {
		return fmt.Errorf("confirm %s: %w", h.GetWhat(), err)
	}
	d.log.Info("held change confirmed", "what", h.GetWhat(), "reason", h.GetReason(), "why", why)
	return nil
}
