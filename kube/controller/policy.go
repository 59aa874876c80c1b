package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// conditionPolicy is on the OnlinkConfig: False while NetworkPolicies exist and
// nothing enforces them.
const conditionPolicy = "PolicyEnforced"

// watchPolicies looks whether a NetworkPolicy exists, by a list of one: it decides
// nothing by their contents.
func (c *controller) watchPolicies(ctx context.Context) error {
	some, err := c.client.NetworkingV1().NetworkPolicies("").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("list NetworkPolicies: %w", err)
	}
	cond := metav1.Condition{Type: conditionPolicy, Status: metav1.ConditionTrue, Reason: "Enforced", Message: "NetworkPolicies are enforced"}
	switch {
	case c.opt.PolicyEnforced:
	case len(some.Items) == 0:
		cond.Reason, cond.Message = "NoPolicies", "there are no NetworkPolicies"
	default:
		cond.Status, cond.Reason = metav1.ConditionFalse, "NoEnforcer"
		cond.Message = fmt.Sprintf("NetworkPolicies exist, such as %s/%s, and nothing enforces them: set networkPolicy.enabled of the chart, "+
			"or --policy-enforced when another program does", some.Items[0].Namespace, some.Items[0].Name)
	}
	if c.m.alarm("policies_not_enforced", cond.Status == metav1.ConditionFalse) {
		c.log.Error("NetworkPolicies exist and nothing enforces them", "example", some.Items[0].Namespace+"/"+some.Items[0].Name)
		if cfg, ok := get[*v1alpha1.OnlinkConfig](c.w.configs, v1alpha1.ConfigName); ok {
			c.events.Event(reference("OnlinkConfig", cfg), corev1.EventTypeWarning, cond.Reason, cond.Message)
		}
	}
	c.policy.Store(&cond)
	return c.writeConfigStatus(ctx)
}

// reference names an object of onlink in an Event.
func reference(kind string, o metav1.Object) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind, Name: o.GetName(), UID: o.GetUID()}
}
