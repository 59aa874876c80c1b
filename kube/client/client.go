// Package client is the typed client of onlink's objects.
package client

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"onlink/kube/api/v1alpha1"
)

// Client calls one API server: Kubernetes' own objects by its embedded
// interface, onlink's by the fields. All are safe for concurrent use.
type Client struct {
	kubernetes.Interface
	// Metadata reads the metadata alone of any kind.
	Metadata metadata.Interface

	Configs        *gentype.ClientWithList[*v1alpha1.OnlinkConfig, *v1alpha1.OnlinkConfigList]
	Peers          *gentype.ClientWithList[*v1alpha1.BGPPeer, *v1alpha1.BGPPeerList]
	Filters        *gentype.ClientWithList[*v1alpha1.BGPFilter, *v1alpha1.BGPFilterList]
	Pools          *gentype.ClientWithList[*v1alpha1.IPPool, *v1alpha1.IPPoolList]
	Advertisements *gentype.ClientWithList[*v1alpha1.ServiceAdvertisement, *v1alpha1.ServiceAdvertisementList]
	Blocks         *gentype.ClientWithList[*v1alpha1.Block, *v1alpha1.BlockList]
	Nodes          *gentype.ClientWithList[*v1alpha1.OnlinkNode, *v1alpha1.OnlinkNodeList]
}

// New returns a client. Kubernetes' objects come as protobuf, which costs the API
// server and this process a third of JSON; custom resources exist only as JSON.
func New(cfg *rest.Config) (*Client, error) {
	core := rest.CopyConfig(cfg)
	core.ContentType = runtime.ContentTypeProtobuf
	core.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	api, err := kubernetes.NewForConfig(core)
	if err != nil {
		return nil, fmt.Errorf("client of Kubernetes' objects: %w", err)
	}
	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of metadata: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("scheme of onlink.io: %w", err)
	}
	own := rest.CopyConfig(cfg)
	own.GroupVersion = &v1alpha1.GroupVersion
	own.APIPath = "/apis"
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	r, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("client of onlink.io: %w", err)
	}
	codec := runtime.NewParameterCodec(scheme)
	return &Client{
		Interface: api,
		Metadata:  meta,
		Configs: gentype.NewClientWithList("onlinkconfigs", r, codec, "",
			func() *v1alpha1.OnlinkConfig { return &v1alpha1.OnlinkConfig{} }, func() *v1alpha1.OnlinkConfigList { return &v1alpha1.OnlinkConfigList{} }),
		Peers: gentype.NewClientWithList("bgppeers", r, codec, "",
			func() *v1alpha1.BGPPeer { return &v1alpha1.BGPPeer{} }, func() *v1alpha1.BGPPeerList { return &v1alpha1.BGPPeerList{} }),
		Filters: gentype.NewClientWithList("bgpfilters", r, codec, "",
			func() *v1alpha1.BGPFilter { return &v1alpha1.BGPFilter{} }, func() *v1alpha1.BGPFilterList { return &v1alpha1.BGPFilterList{} }),
		Pools: gentype.NewClientWithList("ippools", r, codec, "",
			func() *v1alpha1.IPPool { return &v1alpha1.IPPool{} }, func() *v1alpha1.IPPoolList { return &v1alpha1.IPPoolList{} }),
		Advertisements: gentype.NewClientWithList("serviceadvertisements", r, codec, "",
			func() *v1alpha1.ServiceAdvertisement { return &v1alpha1.ServiceAdvertisement{} }, func() *v1alpha1.ServiceAdvertisementList { return &v1alpha1.ServiceAdvertisementList{} }),
		Blocks: gentype.NewClientWithList("blocks", r, codec, "",
			func() *v1alpha1.Block { return &v1alpha1.Block{} }, func() *v1alpha1.BlockList { return &v1alpha1.BlockList{} }),
		Nodes: gentype.NewClientWithList("onlinknodes", r, codec, "",
			func() *v1alpha1.OnlinkNode { return &v1alpha1.OnlinkNode{} }, func() *v1alpha1.OnlinkNodeList { return &v1alpha1.OnlinkNodeList{} }),
	}, nil
}
