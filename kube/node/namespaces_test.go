package node

import (
	"log/slog"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	agentadmin "onlink/agent/admin"
	"onlink/agent/namespaces"
	"onlink/kube/render"
)

// TestPushNamespaces: a namespace keeps a pool that is in force, while the removal of the
// pool is held or all Namespaces are gone.
func TestPushNamespaces(t *testing.T) {
	t.Parallel()
	const both, usual = "pools: [{name: team-a}, {name: usual}]", "pools: [{name: usual}]"
	a, b := []string{"team-a", "usual"}, []string{"usual"}
	type choices = map[string][]string
	for _, c := range []struct {
		name     string
		have     string // the configuration in force
		rendered string
		inForce  bool
		none     bool // there is no Namespace
		next     choices
		want     choices
	}{
		{"nothing changed", both, both, true, false, choices{"a": a, "b": b}, choices{"a": a, "b": b}},
		{"the removal of the pool is held", both, usual, false, false, choices{"b": b}, choices{"a": a, "b": b}},
		{"and the rest of the choice is another", both, usual, false, false, choices{"a": b, "b": b}, choices{"a": a, "b": b}},
		{"the removal is in force", both, usual, true, false, choices{"b": b}, choices{"b": b}},
		{"another change is held", both, both, false, false, choices{"b": a}, choices{"b": a}},
		{"all Namespaces are gone", both, both, true, true, nil, choices{"a": a, "b": b}},
		{"all Namespaces are gone, and a pool went before", usual, usual, true, true, nil, choices{"a": a, "b": b}},
		{"all Namespaces and pools are gone", both, "pools: []", false, true, nil, choices{"a": a, "b": b}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := slog.New(slog.NewTextHandler(t.Output(), nil))
			agent, err := namespaces.Open(t.TempDir(), func() []namespaces.Pool { return nil })
			if err != nil {
				t.Fatal(err)
			}
			if err := agent.Set([]namespaces.Choice{{Namespace: "a", Pools: a}, {Namespace: "b", Pools: b}}); err != nil {
				t.Fatal(err)
			}
			d := &desire{
				log: log, objects: newObjects(nil, log, "n1", "onlink", func(deletion) {}),
				link: serveAgent(t, agentadmin.Config{Node: "n1", Log: log, Namespaces: agent}, newBell()),
			}
			if !c.none {
				if err := d.objects.namespaces.Update(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
					t.Fatal(err)
				}
			}
			out := &render.Output{Config: []byte(c.rendered), Namespaces: c.next}
			d.sent.inForce, d.sent.config = c.inForce, hashOf(out)
			if err := d.pushNamespaces(t.Context(), out, &has{text: c.have}); err != nil {
				t.Fatal(err)
			}
			got := choices{}
			for _, one := range agent.List() {
				got[one.Namespace] = one.Pools
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
