package kube

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
)

// TestNodeHeldServices: while the withdrawal of addresses is held, because their
// Services were deleted at once, the addresses of the others follow their endpoints,
// and new ones are announced.
func TestNodeHeldServices(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1)
	b.configure(t)
	b.up(t)
	n, ctx := b.nodes[0], t.Context()
	advertiseExternal(t, b.Client)
	services, slices := b.Client.CoreV1().Services(metav1.NamespaceDefault), b.Client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	prefix := func(i int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/32", i)) }
	add := func(i int, labels map[string]string) string {
		name := fmt.Sprintf("s%d", i)
		_, err := services.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
			Spec: corev1.ServiceSpec{
				ExternalIPs: []string{prefix(i).Addr().String()}, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
				Ports: []corev1.ServicePort{{Port: 80}},
			},
		}, metav1.CreateOptions{})
		must(t, err)
		_, err = slices.Create(ctx, endpoints(name, n.Name, true), metav1.CreateOptions{})
		must(t, err)
		return name
	}
	team := map[string]string{"team": "a"}
	for i := 1; i <= 3; i++ {
		add(i, team)
	}
	stays := add(4, nil)
	eventually(t, "all", func() error { return n.announces(t, prefix(1), prefix(2), prefix(3), prefix(4)) })

	for i := 1; i <= 3; i++ {
		must(t, services.Delete(ctx, fmt.Sprintf("s%d", i), metav1.DeleteOptions{}))
	}
	held := func(s *v1alpha1.OnlinkNodeStatus) error {
		if s.Held == nil {
			return errors.New("nothing is held")
		}
		return nil
	}
	n.wait(t, "the withdrawal of three of four is held", held)
	must(t, n.announces(t, prefix(1), prefix(2), prefix(3), prefix(4)))
	_, err := slices.Update(ctx, endpoints(stays, n.Name, false), metav1.UpdateOptions{})
	must(t, err)
	eventually(t, "the other one follows its endpoint", func() error { return n.announces(t, prefix(1), prefix(2), prefix(3)) })
	add(5, nil)
	eventually(t, "a new one is announced", func() error { return n.announces(t, prefix(1), prefix(2), prefix(3), prefix(5)) })

	// The digest is of the whole set, and the status may show an earlier one.
	eventually(t, "confirmed, it is made", func() error {
		o, err := b.Client.Nodes.Get(ctx, n.Name, metav1.GetOptions{})
		if err == nil {
			err = held(&o.Status)
		}
		if err != nil {
			return errors.Join(err, n.announces(t, prefix(5))) //nolint:contextcheck // the test's own bounds it
		}
		_, err = b.Client.Nodes.Patch(ctx, n.Name, types.MergePatchType,
			fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ConfirmAnnotation, o.Status.Held.Digest), metav1.PatchOptions{})
		return errors.Join(err, n.announces(t, prefix(5))) //nolint:contextcheck // the test's own bounds it
	})
	n.wait(t, "nothing is held", func(s *v1alpha1.OnlinkNodeStatus) error {
		return condition(s, v1alpha1.ConditionHeld, metav1.ConditionFalse)
	})
}
