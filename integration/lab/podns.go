package lab

import (
	"crypto/sha256"
	"encoding/hex"
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
