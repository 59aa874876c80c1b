package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/render"
)

// TestWasReady: a process that begins knows from the status whether the node was ready,
// so that an upgrade does not show it as unready at once.
func TestWasReady(t *testing.T) {
	t.Parallel()
	status := func(is metav1.ConditionStatus) *v1alpha1.OnlinkNodeStatus {
		return &v1alpha1.OnlinkNodeStatus{Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: is, Reason: "R", Message: "m"}}}
	}
	for _, c := range []struct {
		name          string
		before, wrote *v1alpha1.OnlinkNodeStatus
		want          bool
	}{
		{"there is no OnlinkNode", nil, nil, false},
		{"a new OnlinkNode", &v1alpha1.OnlinkNodeStatus{}, nil, false},
		{"ready before", status(metav1.ConditionTrue), nil, true},
		{"not ready before", status(metav1.ConditionFalse), nil, false},
		{"this process wrote another", status(metav1.ConditionTrue), status(metav1.ConditionFalse), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &reporter{objects: newObjects(nil, slog.New(slog.DiscardHandler), "n1", "onlink", func(deletion) {}), last: c.wrote}
			if c.before != nil {
				own := &v1alpha1.OnlinkNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: *c.before}
				if err := r.objects.own.Update(own); err != nil {
					t.Fatal(err)
				}
			}
			was, ok := r.wasReady()
			if ok != c.want || was.ok != c.want || ok && (was.reason != "R" || was.message != "m") {
				t.Errorf("%t %+v, want %t", ok, was, c.want)
			}
		})
	}
}

// TestWriteState: a node of which the address changed keeps what has no object any more,
// and its keys, until the agent's guard judges it.
func TestWriteState(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	check := func(what, text string, keys ...string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(state, "onlinkd.yaml"))
		if err != nil || string(got) != text {
			t.Errorf("%s: the file is %q (%v), want %q", what, got, err, text)
		}
		files, err := os.ReadDir(filepath.Join(state, "keys"))
		if err != nil || len(files) != len(keys) {
			t.Fatalf("%s: the keys are %v (%v), want %v", what, files, err, keys)
		}
		for i, f := range files {
			if f.Name() != keys[i] {
				t.Errorf("%s: there is the key %s, want %s", what, f.Name(), keys[i])
			}
		}
	}
	write := func(out *render.Output) {
		t.Helper()
		if err := writeState(state, out); err != nil {
			t.Fatal(err)
		}
	}
	write(&render.Output{Config: []byte("both"), Keys: map[string][]byte{"a": []byte("1"), "b": []byte("2")}})
	check("the first", "both", "a", "b")
	write(&render.Output{Config: []byte("one"), Kept: []byte("both, moved"), Keys: map[string][]byte{"a": []byte("1")}})
	check("one has no object any more", "both, moved", "a", "b")
	write(&render.Output{Config: []byte("one"), Keys: map[string][]byte{"a": []byte("1")}})
	check("nothing is to stay", "one", "a")
}
