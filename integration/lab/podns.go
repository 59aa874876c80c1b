package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// NewPod makes a pod's namespace without attaching it: the test calls
// [Pod.Attach] itself, and [Pod.Delete] at the end.
func (n *Node) NewPod(name string) (*Pod, error) {
	ns, err := n.lab.namespace(n.Name + "." + name)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256([]byte(ns.Name))
	return &Pod{NS: ns, Name: name, Node: n, ContainerID: hex.EncodeToString(id[:])}, nil
}

// Drop removes the pod's namespace without a call of CNI, as the end of its machine
// does.
func (p *Pod) Drop() error {
	l := p.Node.lab
	l.mu.Lock()
	l.pods = slices.DeleteFunc(l.pods, func(o *Pod) bool { return o == p })
	l.mu.Unlock()
	return l.dropNamespace(p.NS)
}
