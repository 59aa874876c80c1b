package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"onlink/integration/kube/api"
	"onlink/integration/lab"
	"onlink/internal/pki"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	"onlink/kube/client"
	"onlink/kube/controller"
	"onlink/kube/registry"
)

const (
	manifestFile  = "../../deploy/kubernetes/onlink.yaml"
	onlinkSpace   = "onlink"
	nodeName      = "authentication.kubernetes.io/node-name" // in a token of a pod
	nodeAccount   = "system:serviceaccount:onlink:onlink-node"
	masterAccount = "system:serviceaccount:onlink:onlink-controller"
)

// inForce bounds the time from the creation of a role or policy to its effect.
const inForce = 30 * time.Second

// collections are the paths of the objects of the manifest; %s is the namespace.
var collections = map[string]string{
	"Namespace": "/api/v1/namespaces", "ServiceAccount": "/api/v1/namespaces/%s/serviceaccounts", "ConfigMap": "/api/v1/namespaces/%s/configmaps",
	"ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles", "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	"Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/roles", "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/rolebindings",
	"ValidatingAdmissionPolicy":        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
	"ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
	"DaemonSet":                        "/apis/apps/v1/namespaces/%s/daemonsets", "Deployment": "/apis/apps/v1/namespaces/%s/deployments",
	"CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}

// applyManifest applies the manifest as it is, and returns the version of each object.
func applyManifest(ctx context.Context, t *testing.T, s *api.Server) map[string]string {
	t.Helper()
	return applyObjects(ctx, t, s, manifestFile, func(string) bool { return true })
}

// applyObjects applies the objects of a manifest that have one of the wanted names.
func applyObjects(ctx context.Context, t *testing.T, s *api.Server, file string, wanted func(name string) bool) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	versions := map[string]string{}
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var o struct {
			Kind     string
			Metadata metav1.ObjectMeta
		}
		must(t, yaml.Unmarshal(doc, &o))
		if o.Kind == "" || !wanted(o.Metadata.Name) {
			continue // without a kind: the comment at its beginning
		}
		path, known := collections[o.Kind]
		if !known {
			t.Fatalf("%s has an object of kind %s: where does it go?", file, o.Kind)
		}
		if strings.Contains(path, "%s") {
			path = fmt.Sprintf(path, o.Metadata.Namespace)
		}
		out, err := s.Client.CoreV1().RESTClient().Patch(types.ApplyYAMLPatchType).AbsPath(path+"/"+o.Metadata.Name).
			Param("fieldManager", "test").Param("fieldValidation", "Strict").Param("force", "true").SetHeader("Accept", "application/json").Body(doc).DoRaw(ctx)
		if err != nil {
			t.Fatalf("apply %s %s: %v", o.Kind, o.Metadata.Name, err)
		}
		must(t, json.Unmarshal(out, &o))
		versions[o.Kind+" "+o.Metadata.Name] = fmt.Sprint(o.Metadata.UID, o.Metadata.Generation)
	}
	return versions
}

// asNode returns a client with the token of onlink-node's pod on a node; "": the token
// names none.
func asNode(t *testing.T, s *api.Server, node string) *client.Client {
	t.Helper()
	cfg := s.User(t, nodeAccount)
	if node != "" {
		cfg.Impersonate = rest.ImpersonationConfig{UserName: nodeAccount, Extra: map[string][]string{nodeName: {node}}}
	}
	c, err := client.New(cfg)
	must(t, err)
	return c
}

func blockOf(cidr, node string) *v1alpha1.Block {
	name := strings.NewReplacer(".", "-", "/", "-").Replace(cidr)
	return &v1alpha1.Block{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.BlockSpec{CIDR: v1alpha1.CIDR(cidr), Pool: "default", Node: node, Epoch: 1}}
}

// TestManifestApplied applies the manifest to an API server, strictly and twice: the
// second time changes nothing.
func TestManifestApplied(t *testing.T) {
	t.Parallel()
	s := api.Start(t)
	first := applyManifest(t.Context(), t, s)
	for name, version := range applyManifest(t.Context(), t, s) {
		if first[name] != version {
			t.Errorf("%s: generation %s, then %s", name, first[name], version)
		}
	}
}

// TestOwnNode: with the token of one node a process writes that node's objects and
// none of another's; without a node's name it writes nothing.
func TestOwnNode(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), api.Start(t)
	applyManifest(ctx, t, s)
	for _, name := range []string{"n1", "n2"} {
		_, err := s.Client.CoreV1().Nodes().Create(ctx, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"rack": "a"}},
			Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoSchedule}, {Key: "other", Effect: corev1.TaintEffectNoSchedule}}},
		}, metav1.CreateOptions{})
		must(t, err)
	}
	one, two, nowhere := asNode(t, s, "n1"), asNode(t, s, "n2"), asNode(t, s, "")
	longName := strings.Repeat("n", 253) // its Lease has a hash of it
	long, namesake := asNode(t, s, longName), asNode(t, s, "controller")

	create := func(c *client.Client, b *v1alpha1.Block) error {
		_, err := c.Blocks.Create(ctx, b, metav1.CreateOptions{})
		return err
	}
	give := func(c *client.Client, cidr, node string, epoch int64) error {
		b, err := c.Blocks.Get(ctx, blockOf(cidr, "").Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		b.Spec.Node, b.Spec.Epoch = node, epoch
		_, err = c.Blocks.Update(ctx, b, metav1.UpdateOptions{})
		return err
	}
	patch := func(c *client.Client, node, text string, sub ...string) error {
		_, err := c.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{}, sub...)
		return err
	}
	untaint := func(c *client.Client, node, key string) error {
		n, err := c.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
		text := fmt.Appendf(nil, `[{"op":"test","path":"/spec/taints/%d/key","value":%q},{"op":"remove","path":"/spec/taints/%d"}]`, i, key, i)
		_, err = c.CoreV1().Nodes().Patch(ctx, node, types.JSONPatchType, text, metav1.PatchOptions{})
		return err
	}
	lease := func(c *client.Client, name string) error {
		_, err := c.CoordinationV1().Leases(onlinkSpace).Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	own := func(c *client.Client, name string) error {
		_, err := c.Nodes.Create(ctx, &v1alpha1.OnlinkNode{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	status := func(c *client.Client, name string) error {
		_, err := c.Nodes.Patch(ctx, name, types.MergePatchType, []byte(`{"status":{"version":"1"}}`), metav1.PatchOptions{}, "status")
		return err
	}
	ask := func(c *client.Client, signer string) error {
		key, err := pki.NewKey(pki.P256)
		must(t, err)
		r, err := certificate.NewRequest(key, "n1", nil)
		must(t, err)
		r.Spec.SignerName = signer
		_, err = c.CertificatesV1().Requests().Create(ctx, r, metav1.CreateOptions{})
		return err
	}
	const (
		ready  = `{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False"}]}}`
		labels = `{"metadata":{"labels":{"onlink.io/reflector":""}}}`
		drain  = `{"metadata":{"annotations":{"onlink.io/drain-phase":"leaving"}}}`
	)
	// A policy is in force some time after its creation.
	must(t, lab.Eventually(ctx, inForce, "the admission policy is in force", func() error {
		if err := lease(one, "onlink-n3"); !denied(err) {
			return fmt.Errorf("n1 writes the Lease of n3: %w", err)
		}
		return nil
	}))
	for _, tt := range []struct {
		name    string
		err     func() error
		allowed bool
	}{
		{"claims a block", func() error { return create(one, blockOf("10.244.0.0/26", "n1")) }, true},
		{"claims a block for another", func() error { return create(one, blockOf("10.244.0.64/26", "n2")) }, false},
		{"claims without a node's name", func() error { return create(nowhere, blockOf("10.244.0.64/26", "n1")) }, false},
		{"gives its block away", func() error { return give(one, "10.244.0.0/26", "n2", 2) }, false},
		{"takes another's block", func() error { return give(two, "10.244.0.0/26", "n2", 2) }, false},
		{"frees another's block", func() error { return give(two, "10.244.0.0/26", "", 2) }, false},
		{"frees its block", func() error { return give(one, "10.244.0.0/26", "", 2) }, true},
		{"claims a free block", func() error { return give(two, "10.244.0.0/26", "n2", 3) }, true},
		{"deletes its block", func() error { return two.Blocks.Delete(ctx, "10-244-0-0-26", metav1.DeleteOptions{}) }, false},
		{"makes its OnlinkNode", func() error { return own(one, "n1") }, true},
		{"makes another's OnlinkNode", func() error { return own(one, "n2") }, false},
		{"writes its status", func() error { return status(one, "n1") }, true},
		{"writes another's status", func() error { return status(two, "n1") }, false},
		{"has its Lease", func() error { return lease(one, "onlink-n1") }, true},
		{"has another's Lease", func() error { return lease(one, "onlink-n2") }, false},
		{"has the controller's Lease", func() error { return lease(one, controller.LeaseName) }, false},
		{"with a long name has its Lease", func() error { return lease(long, registry.LeaseName(longName)) }, true},
		{"with a long name has another's Lease", func() error { return lease(long, "onlink-n2") }, false},
		{"with a long name has the controller's Lease", func() error { return lease(long, controller.LeaseName) }, false},
		{"named as the controller has its Lease", func() error { return lease(namesake, registry.LeaseName("controller")) }, true},
		{"sets the condition of its Node", func() error { return patch(one, "n1", ready, "status") }, true},
		{"sets the condition of another's Node", func() error { return patch(one, "n2", ready, "status") }, false},
		{"removes onlink's taint of its Node", func() error { return untaint(one, "n1", v1alpha1.NotReadyTaint) }, true},
		{"removes onlink's taint of another's Node", func() error { return untaint(one, "n2", v1alpha1.NotReadyTaint) }, false},
		{"removes another taint of its Node", func() error { return untaint(one, "n1", "other") }, false},
		{"labels its Node", func() error { return patch(one, "n1", labels) }, false},
		{"annotates its Node", func() error { return patch(one, "n1", drain) }, true},
		{"asks for a certificate", func() error { return ask(one, certificate.Signer) }, true},
		{"asks without a node's name", func() error { return ask(nowhere, certificate.Signer) }, false},
		{"asks for a client's certificate of the API server", func() error { return ask(one, "kubernetes.io/kube-apiserver-client") }, false},
		{"annotates another's Node", func() error { return patch(one, "n2", drain) }, false},
	} {
		if err := tt.err(); tt.allowed && err != nil || !tt.allowed && !denied(err) {
			t.Errorf("a node %s: allowed is %v, got %v", tt.name, tt.allowed, err)
		}
	}
}

// denied reports whether RBAC or the admission policy rejected a request; an error of
// the request itself is neither.
func denied(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) && strings.Contains(err.Error(), "ValidatingAdmissionPolicy")
}

// TestRefused: what the service accounts do not need is refused, and what they need is
// not.
func TestRefused(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), api.Start(t)
	applyManifest(ctx, t, s)
	needs := map[string]string{ // of an account: verbs of GROUP/RESOURCE[/SUBRESOURCE][@NAMESPACE][=NAME]
		nodeAccount: `
			/nodes get,list,watch,patch
			/nodes/status patch
			/namespaces list,watch
			/services list,watch
			discovery.k8s.io/endpointslices list,watch
			onlink.io/onlinkconfigs list,watch
			onlink.io/bgppeers list,watch
			onlink.io/bgpfilters list,watch
			onlink.io/ippools list,watch
			onlink.io/serviceadvertisements list,watch
			onlink.io/blocks get,list,create,update
			onlink.io/onlinknodes list,watch,create,patch
			onlink.io/onlinknodes/status patch
			certificates.k8s.io/certificatesigningrequests get,create
			/secrets@onlink list,watch
			coordination.k8s.io/leases@onlink get,list,create,update
			/events@default create`,
		masterAccount: `
			/nodes get,list,watch,patch
			/namespaces list,watch
			/services list,watch
			/services/status patch
			onlink.io/bgppeers list,watch
			onlink.io/bgpfilters list,watch
			onlink.io/serviceadvertisements list,watch
			networking.k8s.io/networkpolicies list
			onlink.io/onlinkconfigs get,list,watch,create
			onlink.io/onlinkconfigs/status update
			onlink.io/bgppeers/status update
			onlink.io/bgpfilters/status update
			onlink.io/ippools list,watch,create
			onlink.io/ippools/status update
			onlink.io/serviceadvertisements/status update
			onlink.io/blocks list,watch,update,delete
			onlink.io/onlinknodes list,watch,update,delete
			certificates.k8s.io/certificatesigningrequests list,watch
			certificates.k8s.io/certificatesigningrequests/approval update
			certificates.k8s.io/certificatesigningrequests/status update
			certificates.k8s.io/signers=onlink.io/node approve,sign
			/secrets@onlink-ca create
			/secrets@onlink-ca=onlink-ca get,update
			/configmaps@onlink create
			/configmaps@onlink=onlink-ca get,update
			coordination.k8s.io/leases@onlink get,list,create,update,delete
			/events@team create`,
	}
	const unneeded = `
		/secrets list,get,watch,create
		/secrets@kube-system list,get
		/secrets@onlink-ca list,watch,get,update,patch,delete
		/secrets@onlink-ca=onlink-ca patch,delete
		/secrets@onlink-ca=other get,update
		certificates.k8s.io/certificatesigningrequests update,patch,delete
		certificates.k8s.io/signers approve,sign
		certificates.k8s.io/signers=kubernetes.io/kube-apiserver-client approve,sign,attest
		/pods list,get,create,delete
		/pods/exec create
		/configmaps@onlink get,list,update
		/events@team update,patch,delete
		/serviceaccounts/token@onlink create
		/nodes update,delete,create
		/nodes/proxy get
		/services update,patch,delete,create
		/namespaces update,patch,delete,create
		apps/daemonsets@onlink get,update,patch,delete
		apps/deployments@onlink get,update,patch,delete
		rbac.authorization.k8s.io/clusterroles update,bind,escalate
		apiextensions.k8s.io/customresourcedefinitions list,update,delete
		admissionregistration.k8s.io/validatingadmissionpolicies update,delete
		coordination.k8s.io/leases@kube-system get,update
		onlink.io/onlinkconfigs update,patch,delete,deletecollection
		onlink.io/bgppeers create,update,patch,delete
		onlink.io/ippools update,patch,delete
		onlink.io/blocks patch,deletecollection
		onlink.io/onlinknodes deletecollection`
	unneededBy := map[string]string{
		nodeAccount: `
			/namespaces get
			/services get
			/services/status update,patch
			discovery.k8s.io/endpointslices get
			networking.k8s.io/networkpolicies get,list,watch
			/secrets@onlink get,create,update,patch,delete
			/secrets@onlink-ca create
			/secrets@onlink-ca=onlink-ca get,list,watch,update
			/configmaps@onlink create
			certificates.k8s.io/certificatesigningrequests list,watch
			certificates.k8s.io/certificatesigningrequests/approval update,patch
			certificates.k8s.io/certificatesigningrequests/status update,patch
			certificates.k8s.io/signers=onlink.io/node approve,sign
			onlink.io/onlinkconfigs get,create
			onlink.io/bgppeers get
			onlink.io/bgpfilters get
			onlink.io/ippools get,create
			onlink.io/serviceadvertisements get
			onlink.io/onlinkconfigs/status update,patch
			onlink.io/blocks watch,delete
			onlink.io/onlinknodes get,update,delete
			onlink.io/onlinknodes/status update
			coordination.k8s.io/leases@onlink watch,patch,delete`,
		masterAccount: `
			/nodes/status update,patch
			/namespaces get
			/services get
			/services/status update
			/secrets@onlink list,get
			certificates.k8s.io/certificatesigningrequests get,create
			discovery.k8s.io/endpointslices get,list,watch
			networking.k8s.io/networkpolicies get,watch
			onlink.io/bgppeers get
			onlink.io/bgpfilters get,create
			onlink.io/serviceadvertisements get,create
			onlink.io/ippools get
			onlink.io/onlinkconfigs/status patch
			onlink.io/bgppeers/status patch
			onlink.io/bgpfilters/status patch
			onlink.io/ippools/status patch
			onlink.io/serviceadvertisements/status patch
			onlink.io/blocks get,create
			onlink.io/onlinknodes get,create,patch
			onlink.io/onlinknodes/status update,patch
			coordination.k8s.io/leases@onlink watch,patch`,
	}
	kubernetes := s.Kubernetes(t)
	ask := func(account, verb, what string) bool {
		what, name, _ := strings.Cut(what, "=")
		resource, namespace, _ := strings.Cut(what, "@")
		parts := strings.SplitN(resource, "/", 3)
		parts = append(parts, "")
		r, err := kubernetes.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               account,
			Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:onlink", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Group: parts[0], Resource: parts[1], Subresource: parts[2], Verb: verb, Namespace: namespace, Name: name},
		}}, metav1.CreateOptions{})
		must(t, err)
		return r.Status.Allowed
	}
	each := func(table string, f func(verb, what string)) {
		for line := range strings.Lines(strings.TrimSpace(table)) {
			what, verbs, _ := strings.Cut(strings.TrimSpace(line), " ")
			for verb := range strings.SplitSeq(verbs, ",") {
				f(verb, what)
			}
		}
	}
	// The authorizer reads the roles some time after their creation.
	must(t, lab.Eventually(ctx, inForce, "the roles are in force", func() error {
		for account, table := range needs {
			var err error
			each(table, func(verb, what string) {
				if err == nil && !ask(account, verb, what) {
					err = fmt.Errorf("%s may not %s %s", account, verb, what)
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	for account := range needs {
		each(unneeded+unneededBy[account], func(verb, what string) {
			if ask(account, verb, what) {
				t.Errorf("%s may %s %s, which it does not need", account, verb, what)
			}
		})
	}
}
