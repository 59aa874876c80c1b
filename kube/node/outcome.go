package node

import (
	"sync"

	"onlink/kube/api/v1alpha1"
)

// outcome is what became of the objects on this node: the reporter shows it.
type outcome struct {
	services []v1alpha1.NodeService
	rejected []v1alpha1.RejectedObject
	problems []string
	failure  string // why the last turn failed; "": it did not
	// generation of the OnlinkConfig in force; 0: not known.
	generation int64
	// everyNode: the node lists the blocks of all nodes (in a mesh, reflector).
	everyNode bool
	rendered  bool   // there was a rendering
	isolated  string // why the node has no session that it needs; "": it has, or needs none
}

// lacksSession returns why the node has no session that it needs. Before the first
// rendering it is not known, and a taint that is removed does not come back.
func (o *outcome) lacksSession() string {
	if !o.rendered {
		return "there is no session, and nothing was rendered yet that says whether the node needs one"
	}
	return o.isolated
}

// outcomes has the latest outcome, and wakes who shows it.
type outcomes struct {
	bells []bell

	mu   sync.Mutex // guards last
	last outcome
}

func (o *outcomes) set(next outcome) {
	o.mu.Lock()
	o.last = next
	o.mu.Unlock()
	for _, b := range o.bells {
		b.ring()
	}
}

func (o *outcomes) get() outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}
