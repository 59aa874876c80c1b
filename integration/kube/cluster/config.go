package cluster

import (
	"fmt"
	"strings"
)

// ContainerdMetrics is where each node's containerd serves /v1/metrics, in the node's
// network namespace.
const ContainerdMetrics = "127.0.0.1:1338"

// containerdConfig is of version 2, which containerd 1.6 reads and 2.x migrates.
const containerdConfig = `version = 2
[metrics]
  address = "` + ContainerdMetrics + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + PauseImage + `"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`

// kubeletConfig is what kubeadm writes, but for the cgroups: a machine with
// systemd has those made by systemd, and v2.
func (n *Node) kubeletConfig() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: %s
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 1%%, nodefs.available: 1%%, imagefs.available: 1%%}
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %s}}
authorization: {mode: Webhook}
staticPodPath: /etc/kubernetes/manifests
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
`, n.cgroup(), n.cluster.credentials.file("ca.crt"))
}

// proxyConfig leaves the settings of conntrack, which are the host's, alone.
func (n *Node) proxyConfig() string {
	var pods []string
	for _, p := range n.cluster.Options.Pods {
		pods = append(pods, p.String())
	}
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %s}
hostnameOverride: %s
mode: %s
clusterCIDR: %s
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, n.cluster.credentials.file("kube-proxy.conf"), n.Name, n.cluster.Options.Proxy, strings.Join(pods, ","))
}
