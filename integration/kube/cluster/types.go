package cluster

import (
	"errors"
	"io"
	"path/filepath"
	"sync"

	"k8s.io/client-go/rest"

	"onlink/integration/lab"
)

// Cluster is one running cluster.
type Cluster struct {
	Options Options
	// Lab has the wires: switches and ToRs. A ToR forwards from the start; its
	// BIRD runs once it is started ([lab.ToR.Start]), with an entry for every node
	// (AS [lab.NodeASN]), and accepts parts of its pool 10.244.0.0/16, of fd00:10:244::/56
	// with DualStack, and of [lab.ToR.Accept].
	Lab     *lab.Lab
	Control *lab.Host // runs the control plane
	Client  *lab.Host // runs nothing: a machine outside
	Nodes   []*Node
	// Config is how client-go reaches the API server as administrator, from any
	// network namespace of this process.
	Config *rest.Config

	credentials *credentials
	token       string // of the administrator
	programs    map[string]*lab.Process
	serving     chan struct{} // closed when the API server serves for the first time
	forward     io.Closer     // nil: none
	own         string        // folder of the harness's programs
}

// errOff is the error of what needs a running node.
var errOff = errors.New("the node's power is off")

// Node is one machine of the cluster.
type Node struct {
	*lab.Node // its name, addresses and network namespace; the lab starts no agent in it

	cluster *Cluster
	disk    *box

	mu      sync.Mutex // guards the fields below
	machine *box       // nil: the power is off
	used    bool       // the disk was
	daemons map[string]*Daemon
}

// The daemons of a node, as [Node.Running] takes them.
const (
	Containerd = "containerd"
	Kubelet    = "kubelet"
	KubeProxy  = "kube-proxy"
)

// file names a file in the node's folder, which the node sees too.
func (n *Node) file(name string) string { return filepath.Join(n.cluster.Lab.Dir, n.Name, name) }

func (n *Node) running() *box {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.machine
}
