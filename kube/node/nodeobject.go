package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
)

// readyReason is the reason of the Node's condition NetworkUnavailable.
const readyReason = "OnlinkReady"

// writeNode brings the Node's taint, condition and annotation up to date. A node
// that was ready once stays so: a restart of the agent ends no pod and no route.
func (r *reporter) writeNode(ctx context.Context, self *corev1.Node, ready readiness) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	if ready.ok {
		changed, err := r.clearCondition(ctx, self)
		if err != nil {
			return err
		}
		cleared, err := r.clearTaint(ctx, self)
		if err != nil {
			return err
		}
		if changed || cleared {
			r.events.record(self, corev1.EventTypeNormal, readyReason, "onlink serves pods: "+ready.message)
		}
	}
	return r.writeDrain(ctx, self)
}

// clearTaint removes the taint of a new node. Each test makes the patch fail when
// the list is another by now; the next turn has it.
func (r *reporter) clearTaint(ctx context.Context, self *corev1.Node) (bool, error) {
	i := slices.IndexFunc(self.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.NotReadyTaint })
	if i < 0 {
		return false, nil
	}
	at := fmt.Sprintf("/spec/taints/%d", i)
	text, err := json.Marshal([]map[string]any{
		{"op": "test", "path": at + "/key", "value": v1alpha1.NotReadyTaint},
		{"op": "test", "path": at + "/effect", "value": self.Spec.Taints[i].Effect},
		{"op": "remove", "path": at},
	})
	if err != nil {
		return false, err
	}
	_, err = r.objects.client.CoreV1().Nodes().Patch(ctx, self.Name, types.JSONPatchType, text, metav1.PatchOptions{})
	if err != nil {
		return false, fmt.Errorf("remove taint %s from Node: %w", v1alpha1.NotReadyTaint, err)
	}
	r.log.Info("taint removed from Node", "taint", v1alpha1.NotReadyTaint)
	return true, nil
}

// clearCondition sets NetworkUnavailable to False.
func (r *reporter) clearCondition(ctx context.Context, self *corev1.Node) (bool, error) {
	for _, c := range self.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionFalse && c.Reason == readyReason {
			return false, nil
		}
	}
	now := metav1.NewTime(time.Now())
	text, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{
		Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: readyReason,
		Message: "onlink routes this node's pods", LastTransitionTime: now, LastHeartbeatTime: now,
	}}}})
	if err != nil {
		return false, err
	}
	// A strategic merge: the conditions of others stay.
	if _, err = r.objects.client.CoreV1().Nodes().Patch(ctx, self.Name, types.StrategicMergePatchType, text, metav1.PatchOptions{}, "status"); err != nil {
		return false, fmt.Errorf("set condition NetworkUnavailable of Node: %w", err)
	}
	return true, nil
}

// writeDrain shows the phase of the drain. It is also where the next process reads
// how far this one came.
func (r *reporter) writeDrain(ctx context.Context, self *corev1.Node) error {
	at, why := r.drain.reason()
	shown, has := self.Annotations[v1alpha1.DrainedAnnotation]
	if !r.drain.known() || at == serving && !has || string(at) == shown {
		return nil
	}
	var value any // nil removes it
	if at != serving {
		value = string(at)
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.DrainedAnnotation: value}}})
	if err != nil {
		return err
	}
	if _, err := r.objects.client.CoreV1().Nodes().Patch(ctx, self.Name, types.MergePatchType, text, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("annotate Node with the phase of its drain: %w", err)
	}
	message := "the node serves again"
	switch at {
	case leaving:
		message = "services are announced with GRACEFUL_SHUTDOWN (" + why + ")"
	case withdrawn:
		message = "services are withdrawn; pods of the node still have addresses"
	case drained:
		message = "services and blocks are withdrawn"
	case serving:
	}
	r.events.record(self, corev1.EventTypeNormal, "OnlinkDrain", message)
	return nil
}

// eventsOf records what a person is to see of a status.
func (r *reporter) eventsOf(_ context.Context, self *corev1.Node, s *v1alpha1.OnlinkNodeStatus) {
	if s.Held != nil {
		r.events.once("held "+s.Held.Digest, self, "OnlinkHeld",
			s.Held.Reason+"; to make the change annotate the OnlinkNode with "+v1alpha1.ConfirmAnnotation+"="+s.Held.Digest)
	} else {
		r.events.over("held ")
	}
	if why := r.out.get().failure; why != "" {
		r.events.once("failed "+why, self, "OnlinkFailed", why)
	} else {
		r.events.over("failed ")
	}
	if lines, _ := r.objects.troubles(); len(lines) > 0 {
		r.events.once("watch", self, "OnlinkFailed", strings.Join(lines, "; "))
	} else {
		r.events.over("watch")
	}
	for _, o := range s.Rejected {
		r.events.once(fmt.Sprint("rejected ", o.Kind, o.Name, o.Generation), self, "OnlinkRejected", o.Kind+" "+o.Name+": "+o.Reason)
	}
}
