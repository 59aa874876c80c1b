package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group of the objects and the version of this package.
var GroupVersion = schema.GroupVersion{Group: "onlink.io", Version: "v1alpha1"}

// AddToScheme makes a scheme know the objects of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&OnlinkConfig{}, &OnlinkConfigList{},
		&BGPPeer{}, &BGPPeerList{},
		&BGPFilter{}, &BGPFilterList{},
		&IPPool{}, &IPPoolList{},
		&ServiceAdvertisement{}, &ServiceAdvertisementList{},
		&Block{}, &BlockList{},
		&OnlinkNode{}, &OnlinkNodeList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
