package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"onlink/kube/api/v1alpha1"
)

// conditionPolicy is on the OnlinkConfig: False while NetworkPolicies exist and
// nothing enforces them.
const conditionPolicy = "PolicyEnforced"

// policies are Kubernetes' NetworkPolicies, of which only the names are read.
var policies = schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}

// watchPolicies looks whether a NetworkPolicy exists, by a list of one: it decides
// nothing by their contents.
func (c *controller) watchPolicies(ctx context.Context) error {
	some, err := c.client.Metadata.Resource(policies).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("list NetworkPolicies: %w", err)
	}
	cond := metav1.Condition{Type: conditionPolicy, Status: metav1.ConditionTrue, Reason: "NoPolicies", Message: "there are no NetworkPolicies"}
	if len(some.Items) > 0 {
		reason, why, err := c.enforcer(ctx)
		if err != nil {
			return err
		}
		cond.Reason, cond.Message = "Enforced", "NetworkPolicies are enforced"
		if reason != "" {
			cond.Status, cond.Reason = metav1.ConditionFalse, reason
			cond.Message = fmt.Sprintf("NetworkPolicies exist, such as %s/%s, and %s", some.Items[0].Namespace, some.Items[0].Name, why)
		}
	}
	if c.m.alarm("policies_not_enforced", cond.Status == metav1.ConditionFalse) {
		c.log.Error("NetworkPolicies exist and nothing enforces them", "example", some.Items[0].Namespace+"/"+some.Items[0].Name)
		if cfg, ok := get[*v1alpha1.OnlinkConfig](c.w.configs, v1alpha1.ConfigName); ok {
			c.events.Record(reference("OnlinkConfig", cfg), corev1.EventTypeWarning, cond.Reason, cond.Message)
		}
	}
	c.policy.Store(&cond)
	return c.writeConfigStatus(ctx)
}

// enforcer says why NetworkPolicies are not enforced; nothing when they are. A
// DaemonSet that exists does not enforce: its pods are ready where their queue is
// bound, which needs the kernel's modules.
func (c *controller) enforcer(ctx context.Context) (reason, why string, err error) {
	name := c.opt.PolicyDaemonSet
	switch {
	case c.opt.PolicyEnforced:
		return "", "", nil
	case name == "":
		return "NoEnforcer", "nothing enforces them: set networkPolicy.enabled of the chart, or networkPolicy.enforcedByOther (--policy-enforced) when another program does", nil
	}
	set, err := c.client.AppsV1().DaemonSets(c.opt.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "NoEnforcer", fmt.Sprintf("the DaemonSet %s/%s that enforces them does not exist: helm upgrade makes it again", c.opt.Namespace, name), nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read DaemonSet %s: %w", name, err)
	}
	if ready, want := set.Status.NumberReady, set.Status.DesiredNumberScheduled; ready < want || want == 0 {
		return "EnforcerNotReady", fmt.Sprintf("the DaemonSet %s/%s that enforces them is ready on %d of %d nodes: look at its pods (kubectl -n %s logs daemonset/%s); "+
			"the kernel needs nft_queue and nfnetlink_queue", c.opt.Namespace, name, ready, want, c.opt.Namespace, name), nil
	}
	return "", "", nil
}

// reference names an object of onlink in an Event.
func reference(kind string, o metav1.Object) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind, Name: o.GetName(), UID: o.GetUID()}
}
