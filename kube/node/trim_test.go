package node

import (
	"log/slog"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// TestStatusAlone: a write of the status of a configuration object begins no turn of the
// loop that renders, and a change of the object does.
func TestStatusAlone(t *testing.T) {
	t.Parallel()
	status := v1alpha1.Status{ObservedGeneration: 1, Conditions: []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue}}}
	meta := func(version string, generation int64) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: "default", ResourceVersion: version, Generation: generation}
	}
	input := make(bell, 1)
	o := newObjects(nil, slog.New(slog.DiscardHandler), "n1", "onlink", func(deletion) {}, input)
	for kind, c := range map[string]struct {
		update        func(any) error
		made          any
		written, edit any
	}{
		"OnlinkConfig": {
			o.configs.Update,
			&v1alpha1.OnlinkConfig{ObjectMeta: meta("1", 1)},
			&v1alpha1.OnlinkConfig{ObjectMeta: meta("2", 1), Status: v1alpha1.OnlinkConfigStatus{Status: status, Nodes: 3, Agree: 2}},
			&v1alpha1.OnlinkConfig{ObjectMeta: meta("3", 2), Spec: v1alpha1.OnlinkConfigSpec{ASN: 64513}, Status: v1alpha1.OnlinkConfigStatus{Status: status, Nodes: 3, Agree: 2}},
		},
		"IPPool": {
			o.pools.Update,
			&v1alpha1.IPPool{ObjectMeta: meta("1", 1)},
			&v1alpha1.IPPool{ObjectMeta: meta("2", 1), Status: v1alpha1.IPPoolStatus{Status: status, Blocks: 7, Used: 80, Total: "256"}},
			&v1alpha1.IPPool{ObjectMeta: meta("3", 2), Spec: v1alpha1.IPPoolSpec{Disabled: true}, Status: v1alpha1.IPPoolStatus{Status: status, Blocks: 7}},
		},
		"BGPPeer": {
			o.peers.Update,
			&v1alpha1.BGPPeer{ObjectMeta: meta("1", 1)},
			&v1alpha1.BGPPeer{ObjectMeta: meta("2", 1), Status: v1alpha1.BGPPeerStatus{Status: status, Established: 2, Nodes: 3}},
			&v1alpha1.BGPPeer{ObjectMeta: meta("3", 2), Spec: v1alpha1.BGPPeerSpec{Address: "10.57.0.1"}},
		},
		"BGPFilter": {
			o.filters.Update,
			&v1alpha1.BGPFilter{ObjectMeta: meta("1", 1)},
			&v1alpha1.BGPFilter{ObjectMeta: meta("2", 1), Status: status},
			&v1alpha1.BGPFilter{ObjectMeta: meta("3", 2), Status: status},
		},
		"ServiceAdvertisement": {
			o.advertisements.Update,
			&v1alpha1.ServiceAdvertisement{ObjectMeta: meta("1", 1)},
			&v1alpha1.ServiceAdvertisement{ObjectMeta: meta("2", 1), Status: v1alpha1.ServiceAdvertisementStatus{Status: status, Services: 4, Prefixes: 5}},
			&v1alpha1.ServiceAdvertisement{ObjectMeta: meta("3", 2), Spec: v1alpha1.ServiceAdvertisementSpec{Peers: []string{"tor"}}},
		},
	} {
		for i, step := range []struct {
			object any
			wakes  bool
		}{{c.made, true}, {c.written, false}, {c.edit, true}} {
			if err := c.update(step.object); err != nil {
				t.Fatal(err)
			}
			woke := false
			select {
			case <-input:
				woke = true
			default:
			}
			if woke != step.wakes {
				t.Errorf("%s, step %d: wakes the loop %t, want %t", kind, i, woke, step.wakes)
			}
		}
	}
}
