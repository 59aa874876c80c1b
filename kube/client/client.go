// Package client is the typed client of the objects that onlink reads and writes:
// its own, and the few of Kubernetes. Client-go's clientset knows all kinds of
// Kubernetes, whose registration at the start costs every node 14 MB of memory.
package client

import (
	"fmt"
	"net/http"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"onlink/kube/api/v1alpha1"
)

// Client calls one API server: Kubernetes' own objects by its methods, onlink's by
// the fields. All are safe for concurrent use.
type Client struct {
	// Metadata reads the metadata alone of any kind.
	Metadata metadata.Interface

	Configs        *Resource[*v1alpha1.OnlinkConfig, *v1alpha1.OnlinkConfigList]
	Peers          *Resource[*v1alpha1.BGPPeer, *v1alpha1.BGPPeerList]
	Filters        *Resource[*v1alpha1.BGPFilter, *v1alpha1.BGPFilterList]
	Pools          *Resource[*v1alpha1.IPPool, *v1alpha1.IPPoolList]
	Advertisements *Resource[*v1alpha1.ServiceAdvertisement, *v1alpha1.ServiceAdvertisementList]
	Blocks         *Resource[*v1alpha1.Block, *v1alpha1.BlockList]
	Nodes          *Resource[*v1alpha1.OnlinkNode, *v1alpha1.OnlinkNodeList]

	core, apps, certificates, coordination, discovery group
}

// group is the client of one group of objects.
type group struct {
	rest  rest.Interface
	codec runtime.ParameterCodec
}

// newScheme returns the kinds of objects that this package reads and writes.
func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	s.AddKnownTypes(corev1.SchemeGroupVersion,
		&corev1.Node{}, &corev1.NodeList{},
		&corev1.Namespace{}, &corev1.NamespaceList{},
		&corev1.Service{}, &corev1.ServiceList{},
		&corev1.Secret{}, &corev1.SecretList{},
		&corev1.ConfigMap{}, &corev1.ConfigMapList{},
		&corev1.Event{}, &corev1.EventList{},
	)
	s.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{})
	s.AddKnownTypes(coordinationv1.SchemeGroupVersion, &coordinationv1.Lease{}, &coordinationv1.LeaseList{})
	s.AddKnownTypes(appsv1.SchemeGroupVersion, &appsv1.DaemonSet{}, &appsv1.DaemonSetList{})
	s.AddKnownTypes(certificatesv1.SchemeGroupVersion, &certificatesv1.CertificateSigningRequest{}, &certificatesv1.CertificateSigningRequestList{})
	for _, v := range []schema.GroupVersion{
		corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, certificatesv1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion,
	} {
		metav1.AddToGroupVersion(s, v)
	}
	return s, v1alpha1.AddToScheme(s)
}

// New returns a client. Kubernetes' objects come as protobuf, which costs the API
// server and this process a third of JSON; custom resources exist only as JSON.
// QPS and Burst of the configuration bound all calls together.
func New(cfg *rest.Config) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.RateLimiter == nil && cfg.QPS > 0 {
		cfg.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(cfg.QPS, cfg.Burst)
	}
	shared, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	transport := *shared // without TLS and credentials it is the one of all Go programs
	if transport.Transport == nil {
		transport.Transport = http.DefaultTransport
	}
	transport.Transport = newFirst(transport.Transport)
	scheme, err := newScheme()
	if err != nil {
		return nil, fmt.Errorf("scheme of objects: %w", err)
	}
	c := &Client{}
	if c.Metadata, err = metadata.NewForConfigAndClient(cfg, &transport); err != nil {
		return nil, fmt.Errorf("client of metadata: %w", err)
	}
	var own group
	for _, g := range []struct {
		to        *group
		version   schema.GroupVersion
		path      string
		mediaType string
	}{
		{&c.core, corev1.SchemeGroupVersion, "/api", runtime.ContentTypeProtobuf},
		{&c.apps, appsv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf},
		{&c.certificates, certificatesv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf},
		{&c.coordination, coordinationv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf},
		{&c.discovery, discoveryv1.SchemeGroupVersion, "/apis", runtime.ContentTypeProtobuf},
		{&own, v1alpha1.GroupVersion, "/apis", runtime.ContentTypeJSON},
	} {
		if *g.to, err = newGroup(cfg, &transport, scheme, g.version, g.path, g.mediaType); err != nil {
			return nil, fmt.Errorf("client of %s: %w", g.version, err)
		}
	}
	c.Configs = resource[v1alpha1.OnlinkConfig, v1alpha1.OnlinkConfigList](own.rest, own.codec, "onlinkconfigs", "")
	c.Peers = resource[v1alpha1.BGPPeer, v1alpha1.BGPPeerList](own.rest, own.codec, "bgppeers", "")
	c.Filters = resource[v1alpha1.BGPFilter, v1alpha1.BGPFilterList](own.rest, own.codec, "bgpfilters", "")
	c.Pools = resource[v1alpha1.IPPool, v1alpha1.IPPoolList](own.rest, own.codec, "ippools", "")
	c.Advertisements = resource[v1alpha1.ServiceAdvertisement, v1alpha1.ServiceAdvertisementList](own.rest, own.codec, "serviceadvertisements", "")
	c.Blocks = resource[v1alpha1.Block, v1alpha1.BlockList](own.rest, own.codec, "blocks", "")
	c.Nodes = resource[v1alpha1.OnlinkNode, v1alpha1.OnlinkNodeList](own.rest, own.codec, "onlinknodes", "")
	return c, nil
}

func newGroup(cfg *rest.Config, transport *http.Client, scheme *runtime.Scheme, version schema.GroupVersion, path, mediaType string) (group, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.GroupVersion, cfg.APIPath = &version, path
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.ContentType = mediaType
	if mediaType != runtime.ContentTypeJSON {
		cfg.AcceptContentTypes = mediaType + "," + runtime.ContentTypeJSON
	}
	r, err := rest.RESTClientForConfigAndClient(cfg, transport)
	return group{r, runtime.NewParameterCodec(scheme)}, err
}

// Core is the client of Kubernetes' group without a name.
type Core struct{ group }

// CoreV1 returns the client of Kubernetes' group without a name.
func (c *Client) CoreV1() Core { return Core{c.core} }

// RESTClient returns what calls any path of the API server.
func (c Core) RESTClient() rest.Interface { return c.rest }

// Nodes returns the client of Nodes.
func (c Core) Nodes() *Resource[*corev1.Node, *corev1.NodeList] {
	return resource[corev1.Node, corev1.NodeList](c.rest, c.codec, "nodes", "")
}

// Namespaces returns the client of Namespaces.
func (c Core) Namespaces() *Resource[*corev1.Namespace, *corev1.NamespaceList] {
	return resource[corev1.Namespace, corev1.NamespaceList](c.rest, c.codec, "namespaces", "")
}

// Services returns the client of the Services of a namespace; "": of all.
func (c Core) Services(namespace string) *Resource[*corev1.Service, *corev1.ServiceList] {
	return resource[corev1.Service, corev1.ServiceList](c.rest, c.codec, "services", namespace)
}

// Secrets returns the client of the Secrets of a namespace; "": of all.
func (c Core) Secrets(namespace string) *Resource[*corev1.Secret, *corev1.SecretList] {
	return resource[corev1.Secret, corev1.SecretList](c.rest, c.codec, "secrets", namespace)
}

// ConfigMaps returns the client of the ConfigMaps of a namespace; "": of all.
func (c Core) ConfigMaps(namespace string) *Resource[*corev1.ConfigMap, *corev1.ConfigMapList] {
	return resource[corev1.ConfigMap, corev1.ConfigMapList](c.rest, c.codec, "configmaps", namespace)
}

// Events returns the client of the Events of a namespace; "": of all.
func (c Core) Events(namespace string) *Resource[*corev1.Event, *corev1.EventList] {
	return resource[corev1.Event, corev1.EventList](c.rest, c.codec, "events", namespace)
}

// Apps is the client of the group apps.
type Apps struct{ group }

// AppsV1 returns the client of the group apps.
func (c *Client) AppsV1() Apps { return Apps{c.apps} }

// DaemonSets returns the client of the DaemonSets of a namespace; "": of all.
func (c Apps) DaemonSets(namespace string) *Resource[*appsv1.DaemonSet, *appsv1.DaemonSetList] {
	return resource[appsv1.DaemonSet, appsv1.DaemonSetList](c.rest, c.codec, "daemonsets", namespace)
}

// Certificates is the client of the group certificates.k8s.io.
type Certificates struct{ group }

// CertificatesV1 returns the client of the group certificates.k8s.io.
func (c *Client) CertificatesV1() Certificates { return Certificates{c.certificates} }

// Requests returns the client of CertificateSigningRequests.
func (c Certificates) Requests() *Resource[*certificatesv1.CertificateSigningRequest, *certificatesv1.CertificateSigningRequestList] {
	return resource[certificatesv1.CertificateSigningRequest, certificatesv1.CertificateSigningRequestList](c.rest, c.codec, "certificatesigningrequests", "")
}

// Coordination is the client of the group coordination.k8s.io.
type Coordination struct{ group }

// CoordinationV1 returns the client of the group coordination.k8s.io.
func (c *Client) CoordinationV1() Coordination { return Coordination{c.coordination} }

// Leases returns the client of the Leases of a namespace; "": of all.
func (c Coordination) Leases(namespace string) *Resource[*coordinationv1.Lease, *coordinationv1.LeaseList] {
	return resource[coordinationv1.Lease, coordinationv1.LeaseList](c.rest, c.codec, "leases", namespace)
}

// Discovery is the client of the group discovery.k8s.io.
type Discovery struct{ group }

// DiscoveryV1 returns the client of the group discovery.k8s.io.
func (c *Client) DiscoveryV1() Discovery { return Discovery{c.discovery} }

// EndpointSlices returns the client of the EndpointSlices of a namespace; "": of all.
func (c Discovery) EndpointSlices(namespace string) *Resource[*discoveryv1.EndpointSlice, *discoveryv1.EndpointSliceList] {
	return resource[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](c.rest, c.codec, "endpointslices", namespace)
}
