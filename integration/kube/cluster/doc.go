// Package cluster runs a real Kubernetes cluster on one machine: etcd, API server,
// controller manager and scheduler in a network namespace, and nodes with
// containerd, kubelet and kube-proxy in one box each, a set of network, mount, PID
// and UTS namespaces. The wires are those of package lab: racks with a switch and
// a ToR, and hosts behind the ToRs.
//
// A cluster has no network of its own ([CNINone]) unless it is asked for one
// ([CNIPTP]): what is under test brings it, as on a cluster made by kubeadm.
// Authorization is on (Node, RBAC), service accounts are signed, and a kubelet
// takes requests from the API server alone.
//
// The programs come from package binaries. It needs root. Everything of a cluster
// ends with the process that started it, however that ends; what stays of a killed
// one, names and cgroups, the next cluster of that name removes.
package cluster
