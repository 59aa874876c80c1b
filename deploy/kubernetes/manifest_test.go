// Package kubernetes holds no code: its test holds the manifest to what the
// programs need, and to the rights that they may have.
package kubernetes

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	master "onlink/kube/controller"
	"onlink/kube/registry"
)

const (
	manifest = "onlink.yaml"
	tokenDir = "/var/run/secrets/kubernetes.io/serviceaccount"
	uid      = 65532
)

// objects decodes documents strictly: an API server drops a misspelt field, or
// rejects it. CRDs are left out; they are generated.
func objects(t *testing.T, text []byte) []runtime.Object {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionv1.AddToScheme, appsv1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	decode := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
	var out []runtime.Object
	for r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(doc, []byte("\nkind: CustomResourceDefinition\n")) || !bytes.Contains(doc, []byte("\nkind: ")) {
			continue
		}
		o, _, err := decode.Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		out = append(out, o)
	}
}

// the returns the only object of a type and a name.
func the[T runtime.Object](t *testing.T, all []runtime.Object, match func(T) bool) T {
	t.Helper()
	var found []T
	for _, o := range all {
		if o, ok := o.(T); ok && match(o) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d of %T, want 1", manifest, len(found), *new(T))
	}
	return found[0]
}

func read(t *testing.T) []runtime.Object {
	t.Helper()
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, text)
}

func nodes(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	return the(t, read(t), func(d *appsv1.DaemonSet) bool { return d.Name == "onlink-node" })
}

func controller(t *testing.T) *appsv1.Deployment {
	t.Helper()
	return the(t, read(t), func(*appsv1.Deployment) bool { return true })
}

// container returns a container of a pod by its name.
func container(t *testing.T, pod corev1.PodSpec, name string) corev1.Container {
	t.Helper()
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("%s has no container %s", manifest, name)
	return corev1.Container{}
}

// mounts returns the mounts of a container: path, and the host's path or the kind
// of the volume.
func mounts(t *testing.T, pod corev1.PodSpec, c corev1.Container) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			t.Fatalf("container %s mounts %s, which is no volume", c.Name, m.Name)
		}
		switch v := pod.Volumes[i]; {
		case v.HostPath != nil:
			out[m.MountPath] = v.HostPath.Path
		case v.EmptyDir != nil:
			out[m.MountPath] = "emptyDir"
		case v.ConfigMap != nil:
			out[m.MountPath] = "configMap " + v.ConfigMap.Name
		case v.Projected != nil:
			out[m.MountPath] = "projected"
		}
		// Runtimes make pods' namespaces after the container's start.
		if strings.HasSuffix(m.MountPath, "/netns") && (m.MountPropagation == nil || *m.MountPropagation != corev1.MountPropagationHostToContainer) {
			t.Errorf("container %s: later mounts do not show in %s", c.Name, m.MountPath)
		}
	}
	return out
}

// TestAgent: onlinkd has what it needs of the host, the rights that it uses, and no
// credentials.
func TestAgent(t *testing.T) {
	d := nodes(t)
	pod := d.Spec.Template.Spec
	c := container(t, pod, "onlinkd")
	first := config(t)
	bin, conf := first.Spec.CNI.BinDir, first.Spec.CNI.ConfDir
	want := map[string]string{
		"/var/lib/onlink": "/var/lib/onlink", "/run/onlink": "/run/onlink", "/run/onlink-kube": "emptyDir",
		bin: bin, conf: conf, "/run/netns": "/run/netns", "/var/run/netns": "/run/netns",
	}
	if diff := gocmp.Diff(want, mounts(t, pod, c)); diff != "" {
		t.Errorf("mounts of onlinkd (-want +got):\n%s", diff)
	}
	if i := slices.Index(c.Args, "--config"); i < 0 || filepath.Dir(c.Args[i+1]) != "/var/lib/onlink" {
		t.Errorf("onlinkd reads its configuration by %v, init writes it into /var/lib/onlink", c.Args)
	}
	given := map[string]string{}
	for _, v := range c.Env {
		given[v.Name] = v.ValueFrom.FieldRef.FieldPath
	}
	if diff := gocmp.Diff(map[string]string{"ONLINK_NODE_NAME": "spec.nodeName", "ONLINK_NODE_ADDRESS": "status.hostIP"}, given); diff != "" {
		t.Errorf("name and address of the node (-want +got):\n%s", diff)
	}
	caps := []corev1.Capability{"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "SYS_ADMIN", "SYS_NICE", "DAC_OVERRIDE"}
	if diff := gocmp.Diff(caps, c.SecurityContext.Capabilities.Add); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	// Each one is also one of the systemd unit, with its reason.
	unit, err := os.ReadFile("../systemd/onlinkd.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range caps {
		if !bytes.Contains(unit, []byte("CAP_"+name)) {
			t.Errorf("the systemd unit runs without %s", name)
		}
	}
	unprivileged(t, pod, c)
	if pod.TerminationGracePeriodSeconds == nil || *pod.TerminationGracePeriodSeconds > 10 {
		t.Error("onlinkd needs no grace period")
	}
	served := cmp.Or(first.Spec.Metrics, "127.0.0.1:9179") // the CRD's default
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
		if got := fmt.Sprintf("%s:%d", p.HTTPGet.Host, p.HTTPGet.Port.IntValue()); got != served {
			t.Errorf("a probe goes to %s, /healthz is at %s", got, served)
		}
	}
}

// TestKube: onlink-kube has no capability, runs as root only where root owns the
// folder, and sees of the host the sockets alone.
func TestKube(t *testing.T) {
	pod := nodes(t).Spec.Template.Spec
	for _, tt := range []struct {
		pod    corev1.PodSpec
		name   string
		root   bool
		mounts map[string]string
	}{
		{pod, "init", true, map[string]string{"/var/lib/onlink": "/var/lib/onlink", "/run/onlink-kube": "emptyDir", tokenDir: "projected"}},
		{pod, "kube", false, map[string]string{"/run/onlink": "/run/onlink", "/run/onlink-kube": "emptyDir", tokenDir: "projected"}},
		{controller(t).Spec.Template.Spec, "controller", false, map[string]string{"/etc/onlink": "configMap onlink-defaults", tokenDir: "projected"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := container(t, tt.pod, tt.name)
			if diff := gocmp.Diff(tt.mounts, mounts(t, tt.pod, c)); diff != "" {
				t.Errorf("mounts (-want +got):\n%s", diff)
			}
			if len(c.SecurityContext.Capabilities.Add) > 0 {
				t.Errorf("capabilities %v", c.SecurityContext.Capabilities.Add)
			}
			user := c.SecurityContext.RunAsUser
			if user == nil {
				user = tt.pod.SecurityContext.RunAsUser
			}
			if user == nil || (*user == 0) != tt.root || *user != 0 && *user != uid {
				t.Errorf("user %v", user)
			}
			unprivileged(t, tt.pod, c)
		})
	}
}

// TestKubeProbes: the pods of the DaemonSet are ready when their nodes are, which the
// agent alone does not know; what is away ends no process.
func TestKubeProbes(t *testing.T) {
	c := container(t, nodes(t).Spec.Template.Spec, "kube")
	for _, tt := range []struct {
		probe *corev1.Probe
		path  string
	}{{c.LivenessProbe, "/healthz"}, {c.ReadinessProbe, "/readyz"}} {
		if tt.probe == nil || tt.probe.HTTPGet == nil {
			t.Errorf("no probe asks %s", tt.path)
			continue
		}
		// The default of --health.
		if get := tt.probe.HTTPGet; get.Host != "127.0.0.1" || get.Port.IntValue() != 9178 || get.Path != tt.path {
			t.Errorf("a probe asks %s:%d%s, want 127.0.0.1:9178%s", get.Host, get.Port.IntValue(), get.Path, tt.path)
		}
	}
}

// TestTaintedNodes: the controller taints Nodes that the DaemonSet selects, and no
// other: there nothing would take the taint off.
func TestTaintedNodes(t *testing.T) {
	c := container(t, controller(t).Spec.Template.Spec, "controller")
	tainted := map[string]string{}
	for _, arg := range c.Args {
		if pair, is := strings.CutPrefix(arg, "--node-selector="); is {
			key, value, _ := strings.Cut(pair, "=")
			tainted[key] = value
		}
	}
	if diff := gocmp.Diff(nodes(t).Spec.Template.Spec.NodeSelector, tainted); diff != "" {
		t.Errorf("labels of the Nodes (-DaemonSet +controller):\n%s", diff)
	}
}

// TestSELinux: all containers that meet in folders and sockets of the host have one
// type, or SELinux lets them not.
func TestSELinux(t *testing.T) {
	pod := nodes(t).Spec.Template.Spec
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		s := c.SecurityContext.SELinuxOptions
		if s == nil {
			s = pod.SecurityContext.SELinuxOptions
		}
		if s == nil || s.Type != "spc_t" || s.Level != "s0" {
			t.Errorf("container %s: SELinux %v", c.Name, s)
		}
	}
}

// unprivileged wants what every container has.
func unprivileged(t *testing.T, pod corev1.PodSpec, c corev1.Container) {
	t.Helper()
	s := c.SecurityContext
	if s.Privileged != nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		t.Errorf("container %s: %v", c.Name, s)
	}
	if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("container %s keeps capabilities: drop is %v", c.Name, s.Capabilities.Drop)
	}
	if p := pod.SecurityContext.SeccompProfile; p == nil || p.Type != corev1.SeccompProfileTypeRuntimeDefault || s.SeccompProfile != nil {
		t.Errorf("container %s: seccomp %v", c.Name, p)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("container %s: kubelet mounts the token into every container", c.Name)
	}
	if !pod.HostNetwork || pod.HostPID || pod.HostIPC || pod.PriorityClassName == "" || pod.DNSPolicy != corev1.DNSDefault {
		t.Errorf("container %s: host network %v, PIDs %v, IPC %v, priority %q, DNS %s", c.Name, pod.HostNetwork, pod.HostPID, pod.HostIPC, pod.PriorityClassName, pod.DNSPolicy)
	}
	if len(c.Resources.Requests) == 0 || len(c.Ports) > 0 {
		t.Errorf("container %s: requests %v; ports %v would keep a second replica off the node", c.Name, c.Resources.Requests, c.Ports)
	}
}

// TestLeases: the policy lets a node write its own Lease, also with a long name of
// which that has a hash, and never the one by which the controller is elected.
func TestLeases(t *testing.T) {
	policy := the(t, read(t), func(p *admissionv1.ValidatingAdmissionPolicy) bool { return p.Name == "onlink-node" })
	i := slices.IndexFunc(policy.Spec.Validations, func(v admissionv1.Validation) bool { return strings.Contains(v.Expression, `"leases"`) })
	if i < 0 {
		t.Fatal("the policy says nothing of Leases")
	}
	rule := regexp.MustCompile(`^request\.resource\.resource != "leases" \|\| object\.metadata\.name == "onlink-" \+ variables\.node` +
		` \|\| size\(variables\.node\) > (\d+) && object\.metadata\.name\.matches\("(.*)"\)$`).FindStringSubmatch(policy.Spec.Validations[i].Expression)
	if rule == nil {
		t.Fatalf("the policy has another form: %s", policy.Spec.Validations[i].Expression)
	}
	longest, err := strconv.Atoi(rule[1])
	if err != nil {
		t.Fatal(err)
	}
	allowed := func(node, lease string) bool {
		return lease == "onlink-"+node || len(node) > longest && regexp.MustCompile(rule[2]).MatchString(lease)
	}
	for _, node := range []string{"n1", "controller", "onlink.io", strings.Repeat("n", longest), strings.Repeat("n", longest+1), strings.Repeat("n", 253)} {
		if !allowed(node, registry.LeaseName(node)) {
			t.Errorf("node %s may not write its Lease %s", node, registry.LeaseName(node))
		}
		if allowed(node, master.LeaseName) {
			t.Errorf("node %s may write the controller's Lease %s", node, master.LeaseName)
		}
		if node != "n1" && allowed(node, "onlink-n1") {
			t.Errorf("node %s may write the Lease of n1", node)
		}
	}
}

// TestAuthority: the key of the nodes' authority is where the nodes, which read all
// Secrets of onlink's namespace, read none.
func TestAuthority(t *testing.T) {
	space := certificate.Namespace("onlink")
	the(t, read(t), func(n *corev1.Namespace) bool { return n.Name == space })
	for _, o := range read(t) {
		b, ok := o.(*rbacv1.RoleBinding)
		if !ok || b.Namespace != space {
			continue
		}
		for _, s := range b.Subjects {
			if s.Name != "onlink-controller" || s.Namespace != "onlink" {
				t.Errorf("%s/%s has rights where the authority's key is", s.Namespace, s.Name)
			}
		}
	}
	role := the(t, read(t), func(r *rbacv1.Role) bool { return r.Namespace == space })
	for _, r := range role.Rules {
		if slices.Contains(r.Verbs, "get") && !slices.Equal(r.ResourceNames, []string{certificate.Name}) {
			t.Errorf("role %s reads more than Secret %s: %v", role.Name, certificate.Name, r)
		}
	}
	signers := the(t, read(t), func(r *rbacv1.ClusterRole) bool { return r.Name == "onlink-controller" })
	if !slices.ContainsFunc(signers.Rules, func(r rbacv1.PolicyRule) bool {
		return slices.Equal(r.Resources, []string{"signers"}) && slices.Equal(r.ResourceNames, []string{certificate.Signer})
	}) {
		t.Errorf("the controller may not sign as %s", certificate.Signer)
	}
}

// TestSelectors: pods have the labels that their owner selects.
func TestSelectors(t *testing.T) {
	for _, o := range read(t) {
		var want, have map[string]string
		switch o := o.(type) {
		case *appsv1.DaemonSet:
			want, have = o.Spec.Selector.MatchLabels, o.Spec.Template.Labels
			if u := o.Spec.UpdateStrategy.RollingUpdate; u == nil || u.MaxUnavailable.String() != "10%" {
				t.Errorf("DaemonSet %s: update %v", o.Name, u)
			}
		case *appsv1.Deployment:
			want, have = o.Spec.Selector.MatchLabels, o.Spec.Template.Labels
			if *o.Spec.Replicas != 2 {
				t.Errorf("Deployment %s: %d replicas", o.Name, *o.Spec.Replicas)
			}
		}
		for key, value := range want {
			if have[key] != value {
				t.Errorf("pods have no label %s=%s", key, value)
			}
		}
	}
}

// first returns the first objects of the cluster.
func first(t *testing.T) []runtime.Object {
	t.Helper()
	m := the(t, read(t), func(m *corev1.ConfigMap) bool { return m.Name == "onlink-defaults" })
	return objects(t, []byte(m.Data["defaults.yaml"]))
}

func config(t *testing.T) *v1alpha1.OnlinkConfig {
	t.Helper()
	return the(t, first(t), func(c *v1alpha1.OnlinkConfig) bool { return c.Name == v1alpha1.ConfigName })
}

// TestFirstObjects: the ones of kubeadm's defaults, in both families.
func TestFirstObjects(t *testing.T) {
	if got := config(t).Spec; got.ASN != 64512 || got.Reflection.Mesh != v1alpha1.MeshAuto {
		t.Errorf("OnlinkConfig: AS %d, mesh %s", got.ASN, got.Reflection.Mesh)
	}
	have := map[string]string{}
	for _, o := range first(t) {
		if p, ok := o.(*v1alpha1.IPPool); ok {
			have[p.Name] = fmt.Sprintf("%s %d", p.Spec.CIDR, p.Spec.BlockSize)
		}
	}
	if diff := gocmp.Diff(map[string]string{"default": "10.244.0.0/16 0", "default-ipv6": "fd00:10:244::/56 122"}, have); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
}

// TestVerbs: each role has the verbs that its program's requests need: of a watched
// kind list and watch, of a live look get, of a status what writes it.
func TestVerbs(t *testing.T) {
	want := map[string]string{
		"onlink-node nodes": "get list patch watch", "onlink-node nodes/status": "patch",
		"onlink-node namespaces": "list watch", "onlink-node services": "list watch", "onlink-node endpointslices": "list watch",
		"onlink-node onlinkconfigs": "list watch", "onlink-node bgppeers": "list watch", "onlink-node bgpfilters": "list watch",
		"onlink-node ippools": "list watch", "onlink-node serviceadvertisements": "list watch",
		"onlink-node blocks": "create get list update", "onlink-node onlinknodes": "create list patch watch", "onlink-node onlinknodes/status": "patch",
		"onlink-node certificatesigningrequests": "create get",
		"onlink-node secrets":                    "list watch", "onlink-node leases": "create get list update",
		"onlink-controller nodes":      "get list patch watch",
		"onlink-controller namespaces": "list watch", "onlink-controller services": "list watch", "onlink-controller services/status": "patch",
		"onlink-controller networkpolicies": "list",
		"onlink-controller onlinkconfigs":   "create get list watch", "onlink-controller ippools": "create list watch",
		"onlink-controller bgppeers": "list watch", "onlink-controller bgpfilters": "list watch", "onlink-controller serviceadvertisements": "list watch",
		"onlink-controller onlinkconfigs/status": "update", "onlink-controller ippools/status": "update", "onlink-controller bgppeers/status": "update",
		"onlink-controller bgpfilters/status": "update", "onlink-controller serviceadvertisements/status": "update",
		"onlink-controller blocks": "delete list update watch", "onlink-controller onlinknodes": "delete list update watch",
		"onlink-controller certificatesigningrequests":          "list watch",
		"onlink-controller certificatesigningrequests/approval": "update", "onlink-controller certificatesigningrequests/status": "update",
		"onlink-controller signers [onlink.io/node]": "approve sign",
		"onlink-controller configmaps":               "create", "onlink-controller configmaps [onlink-ca]": "get update",
		"onlink-authority secrets": "create", "onlink-authority secrets [onlink-ca]": "get update",
		"onlink-controller leases": "create delete get list update", "onlink-events events": "create",
	}
	have := map[string]string{}
	for _, o := range read(t) {
		var rules []rbacv1.PolicyRule
		name := ""
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			rules, name = o.Rules, o.Name
		case *rbacv1.Role:
			rules, name = o.Rules, o.Name
		}
		for _, r := range rules {
			for _, what := range r.Resources {
				if len(r.ResourceNames) > 0 {
					what += fmt.Sprintf(" %v", r.ResourceNames)
				}
				have[name+" "+what] = strings.Join(slices.Sorted(slices.Values(r.Verbs)), " ")
			}
		}
	}
	if diff := gocmp.Diff(want, have); diff != "" {
		t.Errorf("verbs (-needed +granted):\n%s", diff)
	}
}

// TestRights: no wildcard, no object of others that nothing reads, no Secret outside
// the own namespace, no deletion by nodes.
func TestRights(t *testing.T) {
	forbidden := []string{"secrets", "pods", "pods/exec", "configmaps", "serviceaccounts", "serviceaccounts/token"}
	for _, o := range read(t) {
		var rules []rbacv1.PolicyRule
		name, cluster := "", false
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			rules, name, cluster = o.Rules, o.Name, true
		case *rbacv1.Role:
			rules, name = o.Rules, o.Name
		}
		for _, r := range rules {
			all := slices.Concat(r.APIGroups, r.Resources, r.Verbs)
			if slices.Contains(all, "*") || len(r.NonResourceURLs) > 0 {
				t.Errorf("role %s: wildcard in %v", name, r)
			}
			for _, what := range r.Resources {
				if cluster && slices.Contains(forbidden, what) {
					t.Errorf("role %s: %s of the whole cluster", name, what)
				}
				if what == "blocks" && name != "onlink-controller" && slices.Contains(r.Verbs, "delete") {
					t.Errorf("role %s: the controller alone deletes Blocks", name)
				}
			}
			if slices.Contains(r.Verbs, "deletecollection") || slices.Contains(r.Verbs, "escalate") || slices.Contains(r.Verbs, "bind") || slices.Contains(r.Verbs, "impersonate") {
				t.Errorf("role %s: %v", name, r.Verbs)
			}
		}
	}
}
